"""The storage root: the one folder under which everything is written."""

import fcntl
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from daemon.config import expand
from daemon.errors import SinkError, StartupError
from daemon.sink.file import telling

LOCK_NAME = ".centernetd.lock"


class Storage:
    """The storage root, created if need be and locked to this daemon while in use.

    The lock is the kernel's (flock): it ends with the process, however that ends.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Create, try and lock the folder.

        Raises
        ------
        StartupError
            When it can't be written to, or another daemon holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()
            self._lock = (self.root / LOCK_NAME).open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise StartupError(
                f"another centernetd writes to {self.root}; stop it or set another storage.root"
            ) from None
        except OSError as error:
            self.close()
            raise StartupError(
                f"storage.root {self.root} can't be written to ({error.strerror}); "
                "make it writable or set another"
            ) from None

    def close(self) -> None:
        """Let another daemon have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "Storage":
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def place(self, template: str, stream: str, wall_time: float) -> Path:
        """Return the path ``template`` stands for at a Unix time, its folders made.

        Raises
        ------
        SinkError
            When it leads out of the root, through symbolic links too, or can't be made.
        """
        relative = expand(template, stream, datetime.fromtimestamp(wall_time, timezone.utc))
        path = self.root / relative
        with telling(path):
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise SinkError(f"{path} is not written: it leads out of storage.root {self.root}")
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

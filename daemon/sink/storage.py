"""The storage root: the one folder under which everything is written."""

import tempfile
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from daemon.config import expand
from daemon.errors import SinkError, StartupError
from daemon.sink.file import telling
from daemon.sink.lockfile import LockFile

LOCK_NAME = ".centernetd.lock"


class Storage:
    """The storage root, created if need be and locked to this daemon while in use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: LockFile | None = None

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
            self._lock = LockFile(self.root / LOCK_NAME)
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

    def say(self, text: str) -> None:
        """Tell those who look for a daemon here; nothing is told where that can't be written."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.say(text)

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

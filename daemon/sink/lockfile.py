"""The file with which a daemon holds its storage root, and in which it speaks of itself."""

import fcntl
import os
from pathlib import Path

from daemon.sink.file import is_at

_SIZE = 4096  # always so long: a full disk doesn't keep the holder from speaking


class LockFile:
    """A file that one process holds at a time.

    The lock is the kernel's (flock): it ends with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``, creating it if need be, and hold it.

        Raises
        ------
        BlockingIOError
            When another process holds it.
        OSError
            When it can't be made.
        """
        self._path = path
        self._said: str | None = None
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.say("")
        except BaseException:
            self.close()
            raise

    def say(self, text: str) -> None:
        """Have the file say ``text``; a reader may find it half written.

        Raises
        ------
        OSError
            When it can't be written.
        """
        if self._descriptor is not None and text != self._said:
            os.pwrite(self._descriptor, text.encode().ljust(_SIZE), 0)
            self._said = text

    @property
    def is_in_place(self) -> bool:
        """Whether the file that is held is still the one at its path; may raise OSError."""
        return self._descriptor is not None and is_at(self._descriptor, self._path)

    def close(self) -> None:
        """Let another process have it; may be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def said_in(path: Path) -> str | None:
    """Return what the holder of ``path`` says; None where nobody holds it.

    Raises
    ------
    OSError
        When it can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, _SIZE, 0).decode(errors="replace").strip()
    else:
        return None
    finally:
        os.close(descriptor)

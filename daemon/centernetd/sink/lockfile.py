"""The file with which a daemon holds its storage root, and in which it speaks of itself."""

import errno
import fcntl
import os
from pathlib import Path

from centernetd.errors import StartupError
from centernetd.sink.file import NotRegularError, is_at, open_descriptor

_SIZE = 4096  # always so long: a full disk doesn't keep the holder from speaking
_HELD = (errno.EAGAIN, errno.EACCES)  # what flock says of another's lock; the second on SMB


class LockFile:
    """A file that one process holds at a time.

    The lock is the kernel's (flock): it ends with the process, however that ends.
    """

    def __init__(self, path: Path, owner: int | None = None) -> None:
        """Open ``path``, creating it if need be, and hold it; it must be of user ``owner``.

        Raises
        ------
        BlockingIOError
            When another process holds it.
        StartupError
            When the file system has no locks, or what is there isn't a daemon's.
        OSError
            When it can't be made.
        """
        self._path = path
        self._said: str | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._lock(self._descriptor, owner)
            self.say("")
        except NotRegularError:
            raise StartupError(f"{path} is not a regular file: remove it") from None
        except BaseException:
            self.close()
            raise

    def _lock(self, descriptor: int, owner: int | None) -> None:
        if owner not in (None, os.fstat(descriptor).st_uid):
            raise StartupError(f"{self._path} is another user's file: remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise BlockingIOError(*error.args) from None
            raise StartupError(
                f"{self._path} can't be locked ({error.strerror}), without which two daemons could "
                "write there: some network shares refuse locks; mount it with them or set another "
                "storage.root"
            ) from None

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
        descriptor = open_descriptor(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return os.pread(descriptor, _SIZE, 0).decode(errors="replace").strip()
    else:
        return None
    finally:
        os.close(descriptor)


def is_held_by(path: Path, process: int) -> bool:
    """Whether the kernel says that ``process`` took the lock on ``path``, whatever the file says.

    Raises
    ------
    OSError
        When this user may not know.
    """
    lock, folder = path.lstat(), Path(f"/proc/{process}")
    for descriptor in (folder / "fd").iterdir():
        try:
            same = os.path.samestat(descriptor.stat(), lock)
            info = (folder / "fdinfo" / descriptor.name).read_text() if same else ""
        except FileNotFoundError:  # closed meanwhile
            continue
        # As in "lock: 1: FLOCK ADVISORY WRITE 1234 08:02:1835 0 EOF": see proc(5).
        locks = (line.split() for line in info.splitlines() if line.startswith("lock:"))
        if any(str(process) in lock for lock in locks):
            return True
    return False

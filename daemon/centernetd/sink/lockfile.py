"""The lock file by which a daemon claims its storage root, and publishes a text to clients."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from centernetd.config.regular import NotRegularError, open_descriptor
from centernetd.errors import StartupError
from centernetd.sink.file import is_at

_SIZE = 4096  # constant, so that a full disk does not prevent updates
_HELD = (errno.EAGAIN, errno.EACCES)  # errno of flock for a lock held by others; the second on SMB


class LockFile:
    """A file that only one process can hold at a time.

    The lock is the kernel's (flock), so it ends with the process in any case.
    """

    def __init__(self, path: Path, owner: int | None = None) -> None:
        """Open or create ``path`` and lock it; it must belong to user ``owner``.

        Raises
        ------
        BlockingIOError
            When another process holds it.
        StartupError
            When the file system has no locks, or the existing file is not a daemon's.
        OSError
            When it can't be created.
        """
        self._path = path
        self._published: str | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._lock(self._descriptor, owner)
            self.publish("")
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

    def publish(self, text: str) -> None:
        """Write ``text`` to the file; a reader may find it half written.

        Raises
        ------
        OSError
            When it can't be written.
        """
        if self._descriptor is not None and text != self._published:
            os.pwrite(self._descriptor, text.encode().ljust(_SIZE), 0)
            self._published = text

    @property
    def is_in_place(self) -> bool:
        """Whether the locked file is still the one at its path; may raise OSError."""
        return self._descriptor is not None and is_at(self._descriptor, self._path)

    def close(self) -> None:
        """Release the lock; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def published_in(path: Path) -> str | None:
    """Return the text published by the holder of ``path``; None if it is not held.

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


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold an existing lock file, so that no daemon starts; yield False if another process does.

    Raises
    ------
    OSError
        When it can't be opened.
    """
    try:
        descriptor = open_descriptor(path, os.O_RDWR)
    except FileNotFoundError:  # no daemon has ever run here
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError as error:
            if error.errno not in _HELD:
                raise
            free = False
        yield free
    finally:
        os.close(descriptor)


def is_held_by(path: Path, process: int) -> bool:
    """Return whether the kernel, whatever the text, lists ``process`` as the holder of ``path``.

    Raises
    ------
    OSError
        When this user may not read that.
    """
    lock = path.lstat()
    for descriptor, file in _files_of(process):
        if not os.path.samestat(file, lock):
            continue
        try:
            info = Path(f"/proc/{process}/fdinfo/{descriptor}").read_text()
        except FileNotFoundError:  # closed meanwhile
            continue
        # As in "lock: 1: FLOCK ADVISORY WRITE 1234 08:02:1835 0 EOF": see proc(5).
        locks = (line.split() for line in info.splitlines() if line.startswith("lock:"))
        if any(str(process) in lock for lock in locks):
            return True
    return False


def is_open_in(process: int, file: os.stat_result) -> bool:
    """Return whether ``process`` has ``file`` open; raises as `is_held_by`."""
    return any(os.path.samestat(each, file) for _, each in _files_of(process))


def _files_of(process: int) -> Iterator[tuple[str, os.stat_result]]:
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield descriptor.name, descriptor.stat()

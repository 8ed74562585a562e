"""Atomic file writes: readers find the old file or the complete new one, even after a power cut."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from centernetd.errors import StartupError

_SCRATCH = ".centernetd-"  # prefix of temporary folders


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` on exit, unless the block raises.

    Readers see either the old file or the complete new one, even after a power cut.

    Raises
    ------
    StartupError
        `path` can't be written.
    """
    with writing(path):
        missing = [folder for folder in path.parents if not folder.exists()]
        with scratch(path.parent) as folder:
            part = folder / path.name
            yield part
            sync(part)
            part.replace(path)
        for changed in (path.parent, *(folder.parent for folder in missing)):
            sync(changed)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert any `OSError` raised inside into a `StartupError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise StartupError(f"{path}: can't be written: {error.strerror}") from None


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or which files are in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in `parent`, removed on exit.

    If the process is killed, the next `sweep` of `parent` removes it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder, lock = _claimed(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _claimed(parent: Path) -> tuple[Path, int]:
    """Create and lock a folder in `parent`; retry if another process sweeps it away first."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        with suppress(FileNotFoundError):
            lock = _lock(folder, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def sweep(parent: Path) -> None:
    """Remove temporary folders left in `parent` by killed processes; live ones hold a lock."""
    try:
        found = list(parent.glob(f"{_SCRATCH}*"))
    except OSError:  # a folder in which nothing can be removed either
        return
    for folder in found:
        with suppress(OSError):
            lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    """Lock a folder until the returned descriptor is closed or the process exits."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def require_access(folder: Path, variable: str = "CACHE_DIRECTORY") -> None:
    """Raise a `StartupError` if files of the cache can't be looked for in `folder`.

    It need not exist. `variable` is what to set to use another.
    """
    try:
        (folder / _SCRATCH).lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartupError(
            f"{folder}: this cache folder can't be read: {error.strerror}; let this user "
            f"read it, or set {variable} to another"
        ) from None


def make_way(path: Path) -> None:
    """Remove the folder, if any, that blocks the cache file `path`.

    Raises
    ------
    StartupError
        The folder can't be removed.
    """
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)

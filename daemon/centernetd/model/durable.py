"""Writing files so that a reader, also after a power cut, finds the old or the whole new one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from centernetd.errors import StartupError

_SCRATCH = ".centernetd-"  # how the folders of what is in the making are called


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write, which becomes `path` at the end if nothing is raised inside.

    A reader sees the old file or the whole new one, also after a power cut.

    Raises
    ------
    StartupError
        It can't be written.
    """
    with writing(path):
        missing = [folder for folder in path.parents if not folder.exists()]
        with scratch(path.parent) as folder:
            part = folder / path.name
            yield part
            _sync(part)
            part.replace(path)
        for changed in (path.parent, *(folder.parent for folder in missing)):
            _sync(changed)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make a `StartupError` that names `path` of every `OSError` raised inside."""
    try:
        yield
    except OSError as error:
        raise StartupError(f"{path}: can't be written: {error.strerror}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Give a folder in `parent` for what is in the making; it is removed in the end.

    Where the process is killed, the next `sweep` of `parent` removes it.
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
    """Make a folder in `parent` and lock it; again where another process sweeps it away first."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        with suppress(FileNotFoundError):
            lock = _lock(folder, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def sweep(parent: Path) -> None:
    """Remove from the folder `parent` what killed processes left; living ones hold a lock."""
    for folder in parent.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    """Lock a folder until the descriptor that is returned is closed, or the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make_way(path: Path) -> None:
    """Remove a folder that has the name of a file to be kept in a cache.

    Raises
    ------
    StartupError
        It can't be removed.
    """
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)

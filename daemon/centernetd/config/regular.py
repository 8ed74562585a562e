"""Opening regular files, so that no other kind of file can block us or exhaust memory."""

import errno
import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Literal

Judge = Callable[[os.stat_result], None]

MAX_SIZE = 2**32  # bytes, for the largest kinds: plans, and checkpoints with an optimizer's state

_MIN_READ = 65536  # bytes to read from a file that does not report its size, as in /proc


class NotRegularError(OSError):
    """Something else, such as a named pipe, exists in place of a file."""


def read(path: Path, limit: int, judge: Judge = lambda _found: None) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    ``judge`` may reject the opened file by raising.

    Raises
    ------
    OSError
        If the file can't be read, is not regular, or is too large, as ``strerror`` explains.
    ValueError
        If ``path`` is not a valid file name.
    """
    size_of(path, limit)  # before opening it, because some devices act on open alone
    descriptor = open_descriptor(path, os.O_RDONLY, follow=True)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        _accept(path, found, limit)
        judge(found)
        content = file.read(min(limit, max(found.st_size, _MIN_READ)) + 1)
    if len(content) > limit:
        raise _too_large(limit)
    return content


def size_of(path: Path, limit: int) -> int:
    """Return the size of a regular file of at most ``limit`` bytes; raises as `read`."""
    found = path.stat()
    _accept(path, found, limit)
    return found.st_size


def open_regular(path: Path, mode: Literal["rb", "r+b", "ab"], more: int = 0) -> FileIO:
    """Open a regular file, unbuffered, in a folder where others may replace it.

    Symbolic links are not followed. ``more`` are flags of open(2).

    Raises
    ------
    NotRegularError
        If it is not a regular file.
    OSError
        If it can't be opened.
    """
    return FileIO(path, mode, opener=lambda path, flags: open_descriptor(path, flags | more))


def open_descriptor(
    path: str | Path, flags: int, mode: int = 0o666, *, follow: bool = False
) -> int:
    """Return a descriptor of a regular file, created with ``mode``; raises as `open_regular`.

    Symbolic links are followed only if ``follow``.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK  # opening a named pipe would wait for a writer
    try:
        descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW, mode)
    except OSError as error:
        if error.errno == errno.ENXIO or (error.errno == errno.ELOOP and not follow):
            raise _not_regular(path) from None  # a pipe without a reader, a symbolic link
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def _not_regular(path: str | Path) -> NotRegularError:
    return NotRegularError(errno.EINVAL, "it is not a regular file", str(path))


def _accept(path: Path, found: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise _not_regular(path)
    if found.st_size > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> OSError:
    unit, name = (2**20, "MiB") if limit >= 2**20 else (2**10, "KiB")
    return OSError(errno.EFBIG, f"it is larger than {limit // unit} {name}")

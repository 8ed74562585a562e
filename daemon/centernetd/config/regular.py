"""Reading whole regular files; no other kind of file can block or exhaust memory."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

Judge = Callable[[os.stat_result], None]

LARGEST = 2**32  # bytes, for the largest kinds: plans, and checkpoints with an optimizer's state

_LEAST = 65536  # bytes to read from a file that does not report its size, as in /proc


def read(path: Path, limit: int, judge: Judge = lambda _found: None) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    ``judge`` may reject the opened file by raising.

    Raises
    ------
    OSError
        If the file can't be read, is not regular or is too large, as ``strerror`` explains.
    ValueError
        If ``path`` is not a valid file name.
    """
    size_of(path, limit)  # before opening it, because some devices act on open alone
    # Non-blocking, because a named pipe may have replaced it meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        _accept(found, limit)
        judge(found)
        content = file.read(min(limit, max(found.st_size, _LEAST)) + 1)
    if len(content) > limit:
        raise _too_large(limit)
    return content


def size_of(path: Path, limit: int) -> int:
    """Return the size of a regular file of at most ``limit`` bytes; raises as `read`."""
    found = path.stat()
    _accept(found, limit)
    return found.st_size


def _accept(found: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if found.st_size > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> OSError:
    unit, name = (2**20, "MiB") if limit >= 2**20 else (2**10, "KiB")
    return OSError(errno.EFBIG, f"it is larger than {limit // unit} {name}")

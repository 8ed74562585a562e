"""Reading regular files whole: nothing else that a path may name can block or use up memory."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

Judge = Callable[[os.stat_result], None]

LARGEST = 2**32  # bytes of the largest files of all: plans, checkpoints with an optimizer's state

_LEAST = 65536  # bytes read of a file that doesn't know its size, as in /proc


def read(path: Path, limit: int, judge: Judge = lambda _found: None) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    ``judge`` may refuse the file that was opened, by what it raises.

    Raises
    ------
    OSError
        The file can't be read, is not a regular one, or is too large; ``strerror`` says which.
    ValueError
        ``path`` can't be the name of a file.
    """
    size_of(path, limit)  # before it is opened: some devices act on that alone
    # Not blocking, as a named pipe may have taken its place meanwhile.
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

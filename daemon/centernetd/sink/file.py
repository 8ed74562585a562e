"""A file written front to back that reports immediately if writing fails."""

import errno
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from centernetd.config.regular import open_regular
from centernetd.config.template import PART
from centernetd.errors import SinkError

_HEADER = 1024  # bytes at the beginning in which `amend` searches
SYNC_INTERVAL = 1.0  # seconds: what a power cut may cost
MAX_FILE_SIZE = 4_000_000_000  # bytes; FAT can hold it too, with room for another second


@contextmanager
def as_sink_error(path: Path) -> Iterator[None]:
    """Convert an OSError to a SinkError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise _sink_error(path, error) from error


def _sink_error(path: Path, error: OSError) -> SinkError:
    return SinkError(f"{path} can't be written: {reason(error.errno, error.strerror)}")


def reason(number: int | None, text: str | None) -> str | None:
    """Return why a file can't be written, given ``errno`` and ``strerror`` of an error."""
    if number == errno.EFBIG:
        return "its file system, or a limit of this process, allows no larger file"
    return text


def unused(path: Path) -> Path:
    """Return the first of ``path``, name-1, name-2, ... that does not exist, even as a part."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
    for candidate in itertools.chain([path], others):
        if not os.path.lexists(candidate) and not os.path.lexists(part_of(candidate)):
            return candidate
    raise AssertionError("numbers have no end")


def part_of(path: Path) -> Path:
    """Return the name of ``path`` until it is complete."""
    return path.with_name(path.name + PART)


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the one at ``path``; may raise OSError."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


class OutputFile:
    """A file opened to be created (``x``: it must not exist) or continued (``a``).

    Nothing is buffered here: data passed to `write` reaches the kernel and survives the process;
    `sync` passes it to the disk every second. `mark_whole` marks the present content as whole; a
    file that fails is truncated to that. PyAV can write to it: it has ``write`` and ``closed``,
    but not ``seek``.
    """

    def __init__(self, path: Path, mode: Literal["x", "a"]) -> None:
        """Open ``path`` in an existing folder.

        Raises
        ------
        SinkError
            When it can't be opened.
        """
        self.path = path
        with as_sink_error(path):
            self._file = open_regular(path, "ab", os.O_EXCL if mode == "x" else 0)
        self.size = self._whole = os.fstat(self._file.fileno()).st_size
        self._synced_at = time.monotonic()

    @property
    def closed(self) -> bool:
        """Whether the file is closed for writing."""
        return self._file.closed

    @property
    def is_intact(self) -> bool:
        """Whether the file is still at its path, with the size that was written.

        Others may have deleted, moved or truncated it, or removed its disk.

        Raises
        ------
        SinkError
            When that can't be determined.
        """
        with as_sink_error(self.path):
            descriptor = self._file.fileno()
            return os.fstat(descriptor).st_size == self.size and is_at(descriptor, self.path)

    def write(self, data: bytes) -> int:
        """Write all of ``data``.

        Raises
        ------
        SinkError
            When the disk is full, broken or missing.
        """
        rest = data
        try:
            while rest:
                count = self._file.write(rest)
                self.size += count
                rest = rest[count:]
        except OSError as error:  # not `as_sink_error`: events are written very often
            raise _sink_error(self.path, error) from error
        return len(data)

    def amend(self, mark: bytes, at: int, data: bytes) -> None:
        """Overwrite with ``data`` the bytes ``at`` bytes after the first ``mark`` in the file.

        Raises
        ------
        SinkError
            When it can't be written.
        """
        with as_sink_error(self.path), open_regular(self.path, "r+b") as file:  # _file only appends
            file.seek(file.read(_HEADER).index(mark) + at)
            file.write(data)

    def mark_whole(self) -> None:
        """Mark everything written so far as whole, so that `abandon` keeps it."""
        self._whole = self.size

    def sync(self, interval: float = SYNC_INTERVAL) -> bool:
        """Wait until the disk has stored everything, unless synced in the last ``interval`` s.

        Return whether it synced.
        """
        due = time.monotonic() - self._synced_at >= interval
        if due:
            with as_sink_error(self.path):
                os.fdatasync(self._file.fileno())
            self._synced_at = time.monotonic()
        return due

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync(interval=0.0)
        finally:
            with as_sink_error(self.path):
                self._file.close()

    def abandon(self) -> bool:
        """Truncate to the whole content and close; return whether the file is whole now.

        It is not if the disk does not allow truncating, or if others have truncated it further or
        removed it.
        """
        cut = self.closed
        if not self.closed:
            with suppress(OSError):
                descriptor = self._file.fileno()
                if os.fstat(descriptor).st_size >= self._whole:
                    self._file.truncate(self._whole)
                    cut = is_at(descriptor, self.path)
            with suppress(OSError):
                self._file.close()
        return cut

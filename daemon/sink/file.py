"""A file that is written front to back and says at once when it can't be."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from daemon.errors import SinkError

PART = ".part"  # ends the name of a file that isn't complete
SYNC_INTERVAL = 1.0  # seconds: what a power cut may cost


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn an OSError into a SinkError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise SinkError(f"{path} can't be written: {error.strerror}") from error


def unused(path: Path) -> Path:
    """Return ``path``, or the first of name-1, name-2, ... that neither is there nor is begun."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
    for candidate in itertools.chain([path], others):
        if not os.path.lexists(candidate) and not os.path.lexists(part_of(candidate)):
            return candidate
    raise AssertionError("numbers have no end")


def part_of(path: Path) -> Path:
    """Return the name ``path`` has until it is complete."""
    return path.with_name(path.name + PART)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at ``path``; may raise OSError."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class OutputFile:
    """A file opened to be created (``x``: it must not exist) or continued (``a``).

    Nothing is buffered here: what `write` took is the kernel's and outlives the process; once
    a second `sync` hands it to the disk. `keep` declares that the file is whole as it is now;
    a file that fails is cut back to there. PyAV can write to it: it has ``write`` and
    ``closed``, and no ``seek``.
    """

    def __init__(self, path: Path, mode: Literal["x", "a"]) -> None:
        """Open ``path`` in a folder that exists.

        Raises
        ------
        SinkError
            When it can't be opened.
        """
        self.path = path
        with telling(path):
            self._file = path.open(f"{mode}b", buffering=0)
        self.size = self._whole = os.fstat(self._file.fileno()).st_size
        self._synced_at = time.monotonic()

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._file.closed

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still at its path: it may have been moved, or its disk taken away.

        Raises
        ------
        SinkError
            When that can't be told.
        """
        with telling(self.path):
            return is_at(self._file.fileno(), self.path)

    def write(self, data: bytes) -> int:
        """Write all of ``data``.

        Raises
        ------
        SinkError
            When the disk is full, broken or gone.
        """
        rest = memoryview(data)
        with telling(self.path):
            while rest:
                count = self._file.write(rest)
                self.size += count
                rest = rest[count:]
        return len(data)

    def keep(self) -> None:
        """Declare all that was written so far to be whole."""
        self._whole = self.size

    def sync(self, interval: float = SYNC_INTERVAL) -> None:
        """Wait until the disk has everything, unless that was done in the last ``interval`` s."""
        if time.monotonic() - self._synced_at >= interval:
            with telling(self.path):
                os.fdatasync(self._file.fileno())
            self._synced_at = time.monotonic()

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync(interval=0.0)
        finally:
            with telling(self.path):
                self._file.close()

    def abandon(self) -> bool:
        """Cut off what is not whole and close; returns whether the disk let it be cut."""
        cut = self.closed
        if not self.closed:
            with suppress(OSError):
                self._file.truncate(self._whole)
                cut = True
            with suppress(OSError):
                self._file.close()
        return cut

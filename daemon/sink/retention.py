"""Deleting the oldest recordings: by age, by their size together, and for free space."""

import errno
import heapq
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from daemon.config import StorageConfig
from daemon.sink.outputs import Output, walk
from daemon.sink.storage import Storage

log = logging.getLogger(__name__)

_OF_THE_DISK = (errno.EROFS, errno.EIO)  # no other file could be deleted either


class Entry(NamedTuple):
    """A file that may be deleted: when it was last written (Unix time), its bytes, its path."""

    written_at: float
    size: int
    path: str


class Retention:
    """Keeps the index of what may be deleted, oldest first, and deletes from it.

    The index is made from the names under the root, then kept by what the sinks complete. A
    name is not enough to delete a file: its first bytes must say that a camera's recording or
    events are in it. What else bears such a name leaves the index when its turn comes.
    """

    def __init__(self, storage: Storage, limits: StorageConfig, outputs: Iterable[Output]) -> None:
        self._storage = storage
        self._limits = limits
        self._outputs = [output for output in outputs if not output.from_file]
        self._index: list[Entry] = []  # a heap
        self._size = 0

    def scan(self) -> None:
        """Make the index anew."""
        self._storage.completed.clear()
        writing = self._storage.writing
        # By path, so that a file that two outputs name is there once.
        found = {
            str(path): Entry(status.st_mtime, status.st_size, str(path))
            for path, status, _ in walk(self._storage.root, self._outputs)
            if path.suffix != ".part" and path not in writing
        }
        self._index = list(found.values())
        heapq.heapify(self._index)
        self._size = sum(entry.size for entry in self._index)

    def keep(self, now: float) -> None:
        """Delete what is over the limits at Unix time ``now`` and tell the storage's condition.

        Raises
        ------
        OSError
            When the disk can't be asked, or nothing can be deleted on it.
        """
        self._take_in()
        open_files = sum(_size(path) for path in self._storage.writing)
        free = _free(self._storage.root)
        while self._index and self._is_over(now, self._size + open_files, free):
            free += self._delete_oldest()
        status = self._storage.status
        status.size, status.free = self._size + open_files, free
        status.oldest = self._index[0].written_at if self._index else None
        status.trouble = self._trouble(free)

    def _take_in(self) -> None:
        while self._storage.completed:
            path = self._storage.completed.popleft()
            if not self._fits(path):
                continue
            try:
                status = path.stat()
            except OSError:
                continue
            heapq.heappush(self._index, Entry(status.st_mtime, status.st_size, str(path)))
            self._size += status.st_size

    def _is_over(self, now: float, size: int, free: int) -> bool:
        limits = self._limits
        return (
            free < limits.min_free
            or (limits.max_bytes is not None and size > limits.max_bytes)
            or (limits.keep_for is not None and self._index[0].written_at < now - limits.keep_for)
        )

    def _delete_oldest(self) -> int:
        """Take the oldest file out of the index and, if it is ours, away; returns its bytes."""
        entry = self._index[0]
        path = Path(entry.path)
        try:
            gone = path.exists() and self._is_ours(path) and self._storage.remove(path)
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            log.warning("%s can't be deleted: %s", path, error.strerror)
            gone = False
        heapq.heappop(self._index)
        self._size -= entry.size
        if not gone:
            return 0
        log.info("deleted %s, the oldest recording, for storage's limits", path)
        return entry.size

    def _fits(self, path: Path) -> bool:
        return any(output.fits(path.relative_to(self._storage.root)) for output in self._outputs)

    def _is_ours(self, path: Path) -> bool:
        relative = path.relative_to(self._storage.root)
        return any(output.fits(relative) and output.made(path) for output in self._outputs)

    def _trouble(self, free: int) -> str | None:
        if free >= self._limits.min_free:
            return None
        return (
            f"only {free / 1e9:.1f} GB are free on the disk of {self._storage.root}, less than "
            f"storage.min_free ({self._limits.min_free / 1e9:.1f} GB), and there is no recording "
            "that may be deleted"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize

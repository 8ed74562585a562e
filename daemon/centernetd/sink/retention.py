"""Deleting the oldest recordings: by age, by their total size, and for free space.

Ages come from a wall clock that distrusts leaps.
"""

import heapq
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from centernetd.config import StorageConfig
from centernetd.sink.file import MAX_FILE_SIZE, PART
from centernetd.sink.outputs import Output, walk
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)

SPARE_FILES = 1000  # kept free on the disk, or a tenth of all it can hold
SHARE = 10  # minimum number of recordings that fit: each ends when it has used its share
MAX_FAILURES = 1000  # to delete, at a time: other work waits for the disk too
LEAP_LASTS = 3600.0  # seconds until a leap of the clock is accepted
DRIFT = 60.0  # seconds that do not count as a leap


class Entry(NamedTuple):
    """A file that may be deleted: time of last writing (Unix), size in bytes, path."""

    written_at: float
    size: int
    path: str


class FreeSpace(NamedTuple):
    """Free space of a disk: bytes, and files (inodes) beyond those kept free."""

    size: int
    files: float


class Retention:
    """Keeps the index of deletable files, oldest first, and deletes from it.

    The index is built from the names under the root, then updated with the files that sinks
    complete. A name is not sufficient to delete a file: its first bytes must identify it as a
    camera's recording or events. Any other file leaves the index when it becomes the oldest.

    A file that can't be read or deleted stays in the index, but is skipped until the next
    scan. A folder that can't be listed keeps its entries as they were. The index is then
    ``doubtful``, as it is if it has nothing to delete although it should.

    Each path occurs once. A file completed again (continued events) keeps its place in the
    queue, and is moved to its proper one when it reaches the front.
    """

    def __init__(
        self,
        storage: Storage,
        limits: StorageConfig,
        outputs: Iterable[Output],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Manage the files of ``outputs``; call ``progress`` before each file."""
        self._progress = progress
        self._storage = storage
        self._limits = limits
        self._outputs = [output for output in outputs if not output.from_file]
        self._index: dict[str, Entry] = {}  # by path
        self._queue: list[Entry] = []  # a heap
        self._size = 0
        self.doubtful = True

    def scan(self) -> None:
        """Rebuild the index."""
        self._storage.take_completed()
        errors: list[OSError] = []
        writing = self._storage.writing
        # Keyed by path, so that a file matching two outputs occurs once.
        found: dict[str, Entry] = {}
        for path, status, _ in walk(self._storage.root, self._outputs, errors.append):
            self._progress()
            if path.suffix != PART and path not in writing:
                found[str(path)] = Entry(status.st_mtime, status.st_size, str(path))
        self.doubtful = bool(errors)
        self._index = {**self._index, **found} if errors else found
        self._queue = list(self._index.values())
        heapq.heapify(self._queue)
        self._size = sum(entry.size for entry in self._queue)

    @property
    def newest(self) -> float | None:
        """Unix time at which the newest file was written; None if the index is empty."""
        return max((entry.written_at for entry in self._queue), default=None)

    def enforce(self, now: float) -> None:
        """Delete what exceeds the limits at Unix time ``now``, and publish the storage status.

        Raises
        ------
        OSError
            When the disk fails, or a file can't be deleted. Of several such files the first is
            reported; all of them are skipped until the next scan.
        """
        failed: list[OSError] = []
        self._add_completed()
        writing = {str(path): _size(path) for path in self._storage.writing}
        free = _free(self._storage.root)
        while (oldest := self._oldest()) and self._is_over(oldest, now, self._total(writing), free):
            self._progress()
            try:
                if self._delete(oldest):
                    free = FreeSpace(free.size + oldest.size, free.files + 1)
            except OSError as error:  # there are others
                failed.append(error)
                if len(failed) == MAX_FAILURES:
                    break
        size = self._total(writing)
        self.doubtful |= oldest is None and self._is_short(size, free)
        status = self._storage.status
        status.size, status.free = size, free.size
        status.oldest = oldest.written_at if oldest else None
        status.trouble = self._trouble(free)
        room = size + free.size - self._limits.min_free
        limit = room if self._limits.max_bytes is None else min(room, self._limits.max_bytes)
        self._storage.largest = min(MAX_FILE_SIZE, limit // SHARE)
        if failed:
            raise failed[0]

    def _add_completed(self) -> None:
        for path in self._storage.take_completed():
            if not self._outputs_named(path):
                continue
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            except OSError:
                self.doubtful = True
                continue
            self._put(Entry(status.st_mtime, status.st_size, str(path)))

    def _put(self, entry: Entry) -> None:
        known = self._index.get(entry.path)
        self._index[entry.path] = entry
        self._size += entry.size - (known.size if known else 0)
        if known is None:
            heapq.heappush(self._queue, entry)

    def _oldest(self) -> Entry | None:
        while self._queue:
            entry = self._index[self._queue[0].path]
            if entry is self._queue[0]:
                return entry
            heapq.heapreplace(self._queue, entry)  # written to after it was queued
        return None

    def _total(self, writing: Mapping[str, int]) -> int:
        """Return the bytes of all files; those being written may be in the index too."""
        return self._size + sum(
            size - (self._index[path].size if path in self._index else 0)
            for path, size in writing.items()
        )

    def _is_over(self, oldest: Entry, now: float, size: int, free: FreeSpace) -> bool:
        keep_for = self._limits.keep_for
        too_old = keep_for is not None and oldest.written_at < now - keep_for
        return too_old or self._is_short(size, free)

    def _is_short(self, size: int, free: FreeSpace) -> bool:
        """Return whether room is short, for others or for us."""
        limit = self._limits.max_bytes
        over = limit is not None and size > limit
        return over or free.size < self._limits.min_free or free.files < 0

    def _delete(self, entry: Entry) -> bool:
        """Remove the oldest file from the index; if it is ours, delete it and return True."""
        path = Path(entry.path)
        heapq.heappop(self._queue)
        try:
            ours = any(output.matches_content(path) for output in self._outputs_named(path))
            deleted = ours and self._storage.remove(path)
        except FileNotFoundError:
            deleted = False
        except OSError:
            self.doubtful = True
            raise
        del self._index[entry.path]
        self._size -= entry.size
        if deleted:
            log.info("deleted %s, the oldest recording, for storage's limits", path)
        return deleted

    def _outputs_named(self, path: Path) -> list[Output]:
        """Return the outputs that use such a name."""
        relative = path.relative_to(self._storage.root)
        return [output for output in self._outputs if output.matches_name(relative)]

    def _trouble(self, free: FreeSpace) -> str | None:
        disk = f"the disk of {self._storage.root}"
        if free.size < self._limits.min_free:
            return (
                f"only {free.size / 1e9:.1f} GB are free on {disk}, less than storage.min_free "
                f"({self._limits.min_free / 1e9:.1f} GB), and there is no recording that may be "
                "deleted"
            )
        if free.files < 0:
            return (
                f"{disk} has room for hardly any more files (inodes), and there is no recording "
                "that may be deleted: delete other files on it"
            )
        return None


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _free(folder: Path) -> FreeSpace:
    """Return the free room; disks without inode counts (btrfs, FAT) report 0 files in total."""
    status = os.statvfs(folder)
    spared = min(SPARE_FILES, status.f_files // 10)
    files = status.f_favail - spared if status.f_files else math.inf
    return FreeSpace(status.f_bavail * status.f_frsize, files)


class CautiousClock:
    """Returns Unix time; accepts a leap forward only when it has lasted for an hour.

    A clock that is temporarily wrong, even from the start, must not make every recording look
    old.
    """

    def __init__(self, wall_time: float, monotonic: float, newest: float | None = None) -> None:
        """Begin at ``wall_time``, or at the time of the ``newest`` recording if that is earlier."""
        self._offset = (wall_time if newest is None else min(wall_time, newest)) - monotonic
        self._leapt_at: float | None = None

    def read(self, wall_time: float, monotonic: float) -> float:
        """Return the time to use; both clocks are read at the same moment, in seconds."""
        offset = wall_time - monotonic
        if offset <= self._offset + DRIFT:
            self._offset, self._leapt_at = offset, None
            return wall_time
        if self._leapt_at is None:
            self._leapt_at = monotonic
        elif monotonic - self._leapt_at >= LEAP_LASTS:
            self._offset, self._leapt_at = offset, None
        return monotonic + self._offset

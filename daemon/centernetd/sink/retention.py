"""Deleting recordings and events: by age, and the oldest first by total size and for free space.

Ages come from a wall clock that distrusts leaps, and have an upper bound that needs no such clock.
"""

import heapq
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from centernetd.config import StorageConfig
from centernetd.config.template import PART
from centernetd.config.values import format_duration
from centernetd.sink.file import MAX_FILE_SIZE
from centernetd.sink.outputs import Output, owners, walk
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)

SPARE_FILES = 1000  # kept free on the disk, or a tenth of all it can hold
SHARE = 10  # minimum number of recordings that fit: each ends when it has used its share
MAX_FAILURES = 1000  # to delete, at a time: other work waits for the disk too
AGE_INTERVAL = 60.0  # seconds from one search for files that are too old to the next
LEAP_LASTS = 3000.0  # seconds until a leap of the clock is accepted; an hour is promised in all
DRIFT = 60.0  # seconds that do not count as a leap


class Entry(NamedTuple):
    """A file that may be deleted.

    It was last written at ``written_at`` (Unix time) and has been known, unchanged, since
    ``known_since`` (monotonic). After ``keep_for`` seconds it is deleted. It may also be deleted to
    make room for others, and counts as used room, if ``is_room``. ``size`` is in bytes.
    """

    written_at: float
    known_since: float
    size: int
    path: str
    keep_for: float
    is_room: bool

    def has_expired(self, now: float, monotonic: float) -> bool:
        """Return whether it has been kept long enough by either clock.

        A file written while the wall clock was ahead expires by the monotonic one.
        """
        return max(now - self.written_at, monotonic - self.known_since) > self.keep_for


class FreeSpace(NamedTuple):
    """Free space of a disk: bytes, and files (inodes) beyond those kept free."""

    size: int
    files: float


class Retention:
    """Keeps the index of deletable files, and deletes from it what is too old or too much.

    The index is built from the names under the root, then updated with the files that sinks
    complete. A name is not sufficient to delete a file: its first bytes must identify it as a
    recording or events of ours, and determine how long it is kept. Any other file leaves the
    index when its turn comes. Incomplete files that are not being written, left by a disk that
    failed, only age.

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
        outputs: Collection[Output],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Manage the files of ``outputs``; call ``progress`` before each file."""
        self.outputs = outputs
        """Assigning others takes full effect with the next scan."""
        self.doubtful = True
        self._progress = progress
        self._storage = storage
        self._limits = limits
        self._index: dict[str, Entry] = {}  # by path
        self._skipped: set[str] = set()  # paths
        self._queue: list[Entry] = []  # a heap of those that are room
        self._size = 0  # of those, in bytes
        self._search_at = -math.inf  # monotonic

    def scan(self) -> None:
        """Rebuild the index."""
        self._storage.take_completed()
        errors: list[OSError] = []
        writing = self._storage.writing
        found: dict[str, Entry] = {}
        for path, status, fitting in walk(self._storage.root, self.outputs, errors.append):
            self._progress()
            if path not in writing and (entry := self._entry(path, status, fitting)):
                found[entry.path] = entry
        self.doubtful = bool(errors)
        self._index = {**self._index, **found} if errors else found
        self._skipped.clear()
        self._queue = [entry for entry in self._index.values() if entry.is_room]
        heapq.heapify(self._queue)
        self._size = sum(entry.size for entry in self._queue)
        self._search_at = -math.inf

    @property
    def newest(self) -> float | None:
        """Unix time at which the newest complete file was written; None if there is none."""
        complete = (entry for entry in self._index.values() if not entry.path.endswith(PART))
        return max((entry.written_at for entry in complete), default=None)

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
        self._delete_expired(now, failed)
        writing = {str(path): _size(path) for path in self._storage.writing}
        free = _free(self._storage.root)
        while (oldest := self._oldest()) and self._is_short(self._total(writing), free):
            if len(failed) >= MAX_FAILURES:
                break
            if self._try(self._delete_for_room, oldest, failed):
                free = FreeSpace(free.size + oldest.size, free.files + 1)
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

    def _entry(
        self, path: Path, status: os.stat_result, fitting: Collection[Output]
    ) -> Entry | None:
        """Return the entry of a file that fits outputs; None if it is kept forever."""
        known = self._index.get(str(path))
        unchanged = known is not None and known.written_at == status.st_mtime
        entry = Entry(
            status.st_mtime,
            known.known_since if known is not None and unchanged else time.monotonic(),
            status.st_size,
            str(path),
            keep_for=_shortest(fitting),
            is_room=path.suffix != PART and not all(output.from_file for output in fitting),
        )
        return entry if entry.is_room or entry.keep_for < math.inf else None

    def _add_completed(self) -> None:
        for path in self._storage.take_completed():
            fitting = self._outputs_named(path)
            if not fitting:
                continue
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            except OSError:
                self.doubtful = True
                continue
            if entry := self._entry(path, status, fitting):
                self._put(entry)

    def _put(self, entry: Entry) -> None:
        known = self._index.get(entry.path)
        self._forget(entry.path)
        self._index[entry.path] = entry
        if entry.is_room:
            self._size += entry.size
            if known is None or not known.is_room:
                heapq.heappush(self._queue, entry)

    def _forget(self, path: str) -> None:
        known = self._index.pop(path, None)
        if known is not None and known.is_room:
            self._size -= known.size

    def _oldest(self) -> Entry | None:
        while self._queue:
            first = self._queue[0]
            entry = self._index.get(first.path)
            if entry is None or not entry.is_room or entry.path in self._skipped:
                heapq.heappop(self._queue)
            elif entry is first:
                return entry
            else:
                heapq.heapreplace(self._queue, entry)  # written to after it was queued
        return None

    def _total(self, writing: Mapping[str, int]) -> int:
        """Return the bytes of all files; those being written may be in the index too."""
        indexed = (self._index.get(path) for path in writing)
        twice = sum(entry.size for entry in indexed if entry is not None and entry.is_room)
        return self._size + sum(writing.values()) - twice

    def _is_short(self, size: int, free: FreeSpace) -> bool:
        """Return whether room is short, for others or for us."""
        limit = self._limits.max_bytes
        over = limit is not None and size > limit
        return over or free.size < self._limits.min_free or free.files < 0

    def _delete_expired(self, now: float, failed: list[OSError]) -> None:
        """Delete every file that has expired, if it is time to search for them."""
        monotonic = time.monotonic()
        if monotonic < self._search_at:
            return
        self._search_at = monotonic + AGE_INTERVAL
        expired = sorted(
            entry
            for entry in self._index.values()
            if entry.has_expired(now, monotonic) and entry.path not in self._skipped
        )
        delete = partial(self._delete_if_expired, now=now, monotonic=monotonic)
        for entry in expired:
            if len(failed) < MAX_FAILURES:
                self._try(delete, entry, failed)

    def _try(self, delete: Callable[[Entry], bool], entry: Entry, failed: list[OSError]) -> bool:
        """Return what ``delete`` does with ``entry``, but False if it fails: there are others."""
        self._progress()
        try:
            return delete(entry)
        except FileNotFoundError:
            self._forget(entry.path)
        except OSError as error:
            failed.append(error)
            self._skipped.add(entry.path)
            self.doubtful = True
        return False

    def _delete_if_expired(self, entry: Entry, now: float, monotonic: float) -> bool:
        """Delete a file that has expired unless its content says that it is kept for longer."""
        path = Path(entry.path)
        if found := self._owners(path):
            entry = entry._replace(
                keep_for=_shortest(found), is_room=entry.is_room and not found[0].from_file
            )
            if not entry.has_expired(now, monotonic):
                self._put(entry)
                return False
        return self._delete(entry, found, f"it was kept for {format_duration(entry.keep_for)}")

    def _delete_for_room(self, entry: Entry) -> bool:
        """Delete the oldest file unless its content says that it wasn't recorded from a camera."""
        found = [owner for owner in self._owners(Path(entry.path)) if not owner.from_file]
        return self._delete(entry, found, "the oldest recording, for storage's limits")

    def _delete(self, entry: Entry, found: Sequence[Output], why: str) -> bool:
        """Remove a file from the index; if it is ours, delete it and return True."""
        deleted = bool(found) and self._storage.remove(Path(entry.path))
        self._forget(entry.path)
        if deleted:
            log.info("deleted %s, %s", entry.path, why)
        return deleted

    def _owners(self, path: Path) -> Sequence[Output]:
        return owners(path, self._outputs_named(path))

    def _outputs_named(self, path: Path) -> Sequence[Output]:
        """Return the outputs that use such a name."""
        relative = path.relative_to(self._storage.root)
        return [output for output in self.outputs if output.matches_name(relative)]

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


def _shortest(outputs: Iterable[Output]) -> float:
    """Return the shortest time for which any of ``outputs`` is kept, in seconds."""
    periods = (output.keep_for for output in outputs if output.keep_for is not None)
    return min(periods, default=math.inf)


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
    """Returns Unix time; accepts a leap forward only when it has lasted for `LEAP_LASTS`.

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

"""The storage root: the one folder under which everything is written."""

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from centernetd.config import expand
from centernetd.errors import SinkError, StartupError
from centernetd.flow import Bell, StorageStatus
from centernetd.sink.file import LARGEST, PART, as_sink_error
from centernetd.sink.lockfile import LockFile

LOCK_NAME = ".centernetd.lock"

Item = TypeVar("Item")


class Storage:
    """The storage root, created if necessary and locked by this daemon while in use.

    It also lists the files being written (``writing``), the completed ones (``completed``) and
    those that could not be completed (``left``, as ``*.part``). The housekeeping thread empties
    the last two; ``bell`` wakes it to update the lock file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.status = StorageStatus()
        self.largest = LARGEST
        """Size in bytes at which a recording is continued in another file."""
        self.completed: deque[Path] = deque()
        self.left: deque[Path] = deque()
        self._writing: set[Path] = set()
        self._folders: dict[tuple[str, str], Path] = {}
        self._removing: Path | None = None
        self._busy = threading.Lock()  # held briefly only, never during disk access
        self._lock: LockFile | None = None
        self.busy_since: float | None = None
        """When the housekeeping thread began its current step (monotonic); None while idle."""
        self.bell = Bell()
        self._says = ""

    def open(self) -> None:
        """Create, test and lock the folder.

        Raises
        ------
        StartupError
            When it can't be written to or locked, or another daemon holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as ours:
                owner = os.fstat(ours.fileno()).st_uid  # on network shares it may be any user
            self._lock = LockFile(self.root / LOCK_NAME, owner)
            self.tell()
        except BlockingIOError:
            self.close()
            raise StartupError(
                f"another centernetd writes to {self.root}; stop it or set another storage.root"
            ) from None
        except OSError as error:
            self.close()
            raise StartupError(
                f"storage.root {self.root} can't be written to ({error.strerror}); "
                "make it writable or set another"
            ) from None

    def say(self, text: str) -> None:
        """Publish ``text`` in the lock file; the housekeeping thread writes it soon."""
        self._says = text
        self.bell.ring()

    def tell(self) -> None:
        """Write the published text to the lock file; a failure is ignored."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.say(self._says)

    @property
    def is_in_place(self) -> bool:
        """Whether the folder is the one that was locked, on the same disk; may raise OSError."""
        return self._lock is not None and self._lock.is_in_place

    def close(self) -> None:
        """Release the folder for other daemons."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def place(self, template: str, stream: str, wall_time: float) -> Path:
        """Expand ``template`` to a path at a Unix time and create its folders.

        Raises
        ------
        SinkError
            When it leads out of the root, even through symbolic links, or can't be created, or when
            writing is suspended or another disk has replaced the root.
        """
        self.check()
        self._refuse_if_replaced()
        relative = expand(template, stream, datetime.fromtimestamp(wall_time, timezone.utc))
        path = self.root / relative
        with as_sink_error(path):
            if not self.has(path):
                raise SinkError(f"{path} is not written: it leads out of storage.root {self.root}")
            with self._busy:
                self._folders[template, stream] = path.parent  # before it is created: see `remove`
            _make(path.parent)
        return path

    def has(self, path: Path) -> bool:
        """Return whether ``path`` is under the root after resolving symbolic links."""
        real = Path(os.path.realpath(path))  # unlike `resolve`, it accepts circular links
        return real.is_relative_to(os.path.realpath(self.root))

    def check(self) -> None:
        """Raise SinkError while writing is suspended."""
        if self.status.trouble is not None:
            raise SinkError(self.status.trouble)

    def _refuse_if_replaced(self) -> None:
        """Raise SinkError if the root was replaced, even before housekeeping notices it."""
        with as_sink_error(self.root):
            replaced = self._lock is not None and not self._lock.is_in_place
        if replaced:
            self.bell.ring()
            raise SinkError(f"storage.root {self.root} is another disk or folder than before")

    def begin(self, path: Path) -> None:
        """Mark ``path`` as being written, which protects it from removal.

        Raises
        ------
        SinkError
            When it is being removed.
        """
        with self._busy:
            if path == self._removing:
                raise SinkError(f"{path} can't be written: it is being deleted, as the oldest")
            self._writing.add(path)

    def end(self, path: Path, final: Path | None) -> None:
        """Mark ``path`` as finished; ``final`` is its name now, None if it failed."""
        with self._busy:
            self._writing.discard(path)
        if final is not None:
            self.completed.append(final)
        elif path.suffix == PART and os.path.lexists(path):
            self.left.append(path)

    def moving(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield ``items``, recording with each that the housekeeping thread makes progress."""
        for item in items:
            self.busy_since = time.monotonic()
            yield item

    @property
    def writing(self) -> frozenset[Path]:
        """The files being written."""
        with self._busy:
            return frozenset(self._writing)

    def remove(self, path: Path) -> bool:
        """Delete a file and the folders that become empty by that.

        Return False if it is being written, or no longer under the root.

        Raises
        ------
        OSError
            When it can't be deleted.
        """
        with self._busy:
            if path in self._writing:
                return False
            self._removing = path
        try:
            if not self.has(path.parent):
                return False
            path.unlink(missing_ok=True)
        finally:
            self._removing = None
        for folder in path.parents:
            if folder == self.root or self._is_in_use(folder):
                break
            try:
                folder.rmdir()
            except OSError:  # usually: not empty
                break
        return True

    def _is_in_use(self, folder: Path) -> bool:
        with self._busy:
            return folder in self._folders.values()


def _make(folder: Path) -> None:
    """Create ``folder``; a parent may be removed meanwhile because it is empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)

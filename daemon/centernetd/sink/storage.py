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
from centernetd.sink.file import LARGEST, PART, telling
from centernetd.sink.lockfile import LockFile

LOCK_NAME = ".centernetd.lock"

Item = TypeVar("Item")


class Storage:
    """The storage root, created if need be and locked to this daemon while in use.

    It also knows which files are being written (``writing``), which have been (``completed``) and
    which could not be put away (``left``, as ``*.part``); the last two are emptied by whoever
    keeps house, and is called by the ``bell`` to `tell`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.status = StorageStatus()
        self.largest = LARGEST
        """Bytes from which on a recording is continued in another file."""
        self.completed: deque[Path] = deque()
        self.left: deque[Path] = deque()
        self._writing: set[Path] = set()
        self._folders: dict[tuple[str, str], Path] = {}
        self._removing: Path | None = None
        self._busy = threading.Lock()  # held for a moment only: never while the disk is asked
        self._lock: LockFile | None = None
        self.busy_since: float | None = None
        """Since when whoever keeps house is at one thing (monotonic); None while it rests."""
        self.bell = Bell()
        self._says = ""

    def open(self) -> None:
        """Create, try and lock the folder.

        Raises
        ------
        StartupError
            When it can't be written to, another daemon holds it, or it can't be locked.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as ours:
                owner = os.fstat(ours.fileno()).st_uid  # on network shares it may be anybody
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
        """Have those who look for a daemon here told; whoever keeps house does it, and soon."""
        self._says = text
        self.bell.ring()

    def tell(self) -> None:
        """Write down what is to be told; nothing is where that can't be written."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.say(self._says)

    @property
    def is_in_place(self) -> bool:
        """Whether the folder is the one that was locked, on the same disk; may raise OSError."""
        return self._lock is not None and self._lock.is_in_place

    def close(self) -> None:
        """Let another daemon have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def place(self, template: str, stream: str, wall_time: float) -> Path:
        """Return the path ``template`` stands for at a Unix time, its folders made.

        Raises
        ------
        SinkError
            When it leads out of the root, through symbolic links too, can't be made, or when
            nothing may be written now, or not here, as another disk than before is there.
        """
        self.check()
        self._refuse_if_replaced()
        relative = expand(template, stream, datetime.fromtimestamp(wall_time, timezone.utc))
        path = self.root / relative
        with telling(path):
            if not self.has(path):
                raise SinkError(f"{path} is not written: it leads out of storage.root {self.root}")
            with self._busy:
                self._folders[template, stream] = path.parent  # before it is made: see `remove`
            _make(path.parent)
        return path

    def has(self, path: Path) -> bool:
        """Whether ``path`` is under the root, wherever symbolic links lead."""
        real = Path(os.path.realpath(path))  # unlike `resolve`, it takes links that go in circles
        return real.is_relative_to(os.path.realpath(self.root))

    def check(self) -> None:
        """Raise SinkError while nothing may be written."""
        if self.status.trouble is not None:
            raise SinkError(self.status.trouble)

    def _refuse_if_replaced(self) -> None:
        """See what whoever keeps house will see within a second: till then nothing may be begun."""
        with telling(self.root):
            replaced = self._lock is not None and not self._lock.is_in_place
        if replaced:
            self.bell.ring()
            raise SinkError(f"storage.root {self.root} is another disk or folder than before")

    def begin(self, path: Path) -> None:
        """Note that ``path`` is being written: it is not to be removed.

        Raises
        ------
        SinkError
            When it is just being removed.
        """
        with self._busy:
            if path == self._removing:
                raise SinkError(f"{path} can't be written: it is being deleted, as the oldest")
            self._writing.add(path)

    def end(self, path: Path, final: Path | None) -> None:
        """Note that ``path`` is no longer written; ``final`` is its name now, None if it failed."""
        with self._busy:
            self._writing.discard(path)
        if final is not None:
            self.completed.append(final)
        elif path.suffix == PART and os.path.lexists(path):
            self.left.append(path)

    def moving(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield ``items``, noting with each that whoever keeps house moves."""
        for item in items:
            self.busy_since = time.monotonic()
            yield item

    @property
    def writing(self) -> frozenset[Path]:
        """The files that are being written."""
        with self._busy:
            return frozenset(self._writing)

    def remove(self, path: Path) -> bool:
        """Delete a file and the folders that this leaves empty.

        Returns False if it is being written, or not under the root any more.

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
            except OSError:  # most often: not empty
                break
        return True

    def _is_in_use(self, folder: Path) -> bool:
        with self._busy:
            return folder in self._folders.values()


def _make(folder: Path) -> None:
    """Make ``folder``; one above it may be removed meanwhile, as empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)

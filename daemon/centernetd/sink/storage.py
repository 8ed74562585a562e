"""The storage root: the one folder under which everything is written."""

import os
import tempfile
import threading
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from centernetd.config import expand
from centernetd.config.template import LOCK_NAME, PART
from centernetd.errors import SinkError, StartupError
from centernetd.flow import StorageStatus, WakeUp
from centernetd.sink.file import MAX_FILE_SIZE, as_sink_error
from centernetd.sink.lockfile import LockFile


class Storage:
    """The storage root, and which of its files are being written.

    Sinks get places for their files here, and mark each as begun and ended. The housekeeping
    thread claims the root, and takes over the files that have ended; ``wake_up`` wakes it. While
    ``status.trouble`` is set, writing is suspended.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.status = StorageStatus()
        self.largest = MAX_FILE_SIZE
        """Size in bytes at which a recording is continued in another file."""
        self.wake_up = WakeUp()
        self._lock_file: LockFile | None = None
        self._lock = threading.Lock()  # for what follows; never held during disk access
        self._writing: set[Path] = set()
        self._completed: list[Path] = []
        self._incomplete: list[Path] = []
        self._folders: dict[tuple[str, str], Path] = {}
        self._removing: Path | None = None

    def claim(self) -> None:
        """Create, test and lock the folder, so that no other daemon writes there.

        Raises
        ------
        StartupError
            When it can't be written to or locked, or another daemon holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as ours:
                owner = os.fstat(ours.fileno()).st_uid  # on network shares it may be any user
            self._lock_file = LockFile(self.root / LOCK_NAME, owner)
        except BlockingIOError:
            raise StartupError(
                f"another centernetd writes to {self.root}; stop it or set another storage.root"
            ) from None
        except OSError as error:
            raise StartupError(
                f"storage.root {self.root} can't be written to ({error.strerror}); "
                "make it writable or set another"
            ) from None

    def publish(self, text: str) -> None:
        """Write ``text`` to the lock file, unless that was done; a failure is ignored."""
        if self._lock_file is not None:
            with suppress(OSError):
                self._lock_file.publish(text)

    @property
    def is_in_place(self) -> bool:
        """Whether the folder is the one that was claimed, on the same disk; may raise OSError."""
        return self._lock_file is not None and self._lock_file.is_in_place

    def release(self) -> None:
        """Release the folder for other daemons; idempotent."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def place(self, template: str, stream: str, wall_time: float) -> Path:
        """Expand ``template`` to a path at a Unix time and create its folders.

        Raises
        ------
        SinkError
            When it leads out of the root, even through symbolic links, or can't be created, or when
            writing is suspended or another disk has replaced the root.
        """
        self.require_writable()
        self._refuse_if_replaced()
        relative = expand(template, stream, datetime.fromtimestamp(wall_time, timezone.utc))
        path = self.root / relative
        with as_sink_error(path):
            if not self.contains(path):
                raise SinkError(f"{path} is not written: it leads out of storage.root {self.root}")
            with self._lock:
                self._folders[template, stream] = path.parent  # before it is created: see `remove`
            _make(path.parent)
        return path

    def contains(self, path: Path) -> bool:
        """Return whether ``path`` is under the root after resolving symbolic links."""
        real = Path(os.path.realpath(path))  # unlike `resolve`, it accepts circular links
        return real.is_relative_to(os.path.realpath(self.root))

    def require_writable(self) -> None:
        """Raise SinkError while writing is suspended."""
        if self.status.trouble is not None:
            raise SinkError(self.status.trouble)

    def _refuse_if_replaced(self) -> None:
        """Raise SinkError if the root was replaced, even before housekeeping notices it."""
        with as_sink_error(self.root):
            replaced = self._lock_file is not None and not self._lock_file.is_in_place
        if replaced:
            self.wake_up.set()
            raise SinkError(f"storage.root {self.root} is another disk or folder than before")

    def begin(self, path: Path) -> None:
        """Mark ``path`` as being written, which protects it from removal.

        Raises
        ------
        SinkError
            When it is being removed.
        """
        with self._lock:
            if path == self._removing:
                raise SinkError(f"{path} can't be written: it is being deleted, as the oldest")
            self._writing.add(path)

    def end(self, path: Path, final: Path | None) -> None:
        """Mark ``path`` as finished; ``final`` is its name now, None if it failed."""
        incomplete = final is None and path.suffix == PART and os.path.lexists(path)
        with self._lock:
            self._writing.discard(path)
            if final is not None:
                self._completed.append(final)
            elif incomplete:
                self._incomplete.append(path)

    def take_completed(self) -> list[Path]:
        """Return the files completed since the last call."""
        with self._lock:
            taken, self._completed = self._completed, []
        return taken

    def take_incomplete(self) -> list[Path]:
        """Return the ``*.part`` that failed since the last call, and are to be repaired."""
        with self._lock:
            taken, self._incomplete = self._incomplete, []
        return taken

    @property
    def writing(self) -> frozenset[Path]:
        """The files being written."""
        with self._lock:
            return frozenset(self._writing)

    def remove(self, path: Path) -> bool:
        """Delete a file and the folders that become empty by that.

        Return False if it is being written, or no longer under the root.

        Raises
        ------
        OSError
            When it can't be deleted.
        """
        with self._lock:
            if path in self._writing:
                return False
            self._removing = path
        try:
            if not self.contains(path.parent):
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
        with self._lock:
            return folder in self._folders.values()


def _make(folder: Path) -> None:
    """Create ``folder``; a parent may be removed meanwhile because it is empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)

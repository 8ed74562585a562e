"""Housekeeping of the storage root while the daemon runs: claiming, repair, limits."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from centernetd.config import StorageConfig, StreamConfig
from centernetd.errors import StartupError, StoppedError
from centernetd.flow import Incident
from centernetd.flow.worker import starting
from centernetd.sink.outputs import outputs_of
from centernetd.sink.recovery import recover, recover_recording
from centernetd.sink.retention import CautiousClock, Retention
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds; a disk that is full, or has room again, is noticed this soon
SCAN_INTERVAL = 86_400.0  # seconds until the index is rebuilt: others delete files too
RETRY_INTERVAL = 60.0  # seconds until a failed rebuild or repair is tried again
REST = 100  # minimum pause, in scan durations: 100,000 files take seconds of CPU
HUNG_AFTER = 20.0  # seconds on one file after which the thread counts as hung
EXIT_TIMEOUT = 0.2  # seconds to wait at exit for a disk that may hang: 5 are promised in total
_POLL = 0.1  # seconds


class Housekeeping:
    """Claims the storage root, repairs files left by a kill, and enforces the limits.

    All of it runs in its own thread, which alone waits for a slow or hanging disk; entering the
    context returns once the root is claimed and repaired. With ``require_mount``, nothing is
    claimed or written while the root is on the root disk; this is published as the storage's
    trouble, and recovers by itself. A disk that replaces another is claimed and repaired like one
    at the start.
    """

    def __init__(
        self,
        storage: Storage,
        limits: StorageConfig,
        streams: Iterable[StreamConfig],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Manage the files of ``streams``; give up the start once ``stopping`` returns True."""
        self._storage = storage
        self._limits = limits
        self._outputs = outputs_of(streams, limits.keep_for)
        self._retention = Retention(storage, limits, self._outputs, self._progress)
        self._clock: CautiousClock | None = None
        self._claimed = False
        self._scanned_at: float | None = None
        self._scan_took = 0.0
        self._repair_at = 0.0
        self._busy_since: float | None = None
        self._published = ""
        self._failure = Incident()
        self._stopping = stopping
        self._stopped = False
        self._started = threading.Event()
        self._start_error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)

    def __enter__(self) -> "Housekeeping":
        """Claim the root.

        Raises
        ------
        StartupError
            When it can't be written to, or another daemon holds it.
        StoppedError
            When the disk hangs and the start is to be given up.
        """
        with starting("storage"):
            self._thread.start()
        while not self._started.wait(_POLL):
            if self._stopping():
                raise StoppedError(f"the start was stopped before {self._storage.root} answered")
        if self._start_error is not None:
            raise self._start_error
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True
        self._storage.wake_up.set()
        self._thread.join(EXIT_TIMEOUT)
        self._storage.release()

    def manage(self, streams: Iterable[StreamConfig]) -> None:
        """Manage the files of ``streams`` from the next tick; thread-safe.

        Files of earlier streams are kept like those of streams that were removed before.
        """
        others = [output for output in self._outputs if output.stream is None]
        mine = outputs_of(streams, self._limits.keep_for)
        self._outputs = tuple(dict.fromkeys((*mine, *others)))

    def publish(self, text: str) -> None:
        """Publish ``text`` in the lock file, soon and in the thread that waits for disks."""
        self._published = text
        self._storage.wake_up.set()

    def check_for_hang(self) -> None:
        """Publish whether the thread hangs; called in another thread, about twice per second."""
        since, status = self._busy_since, self._storage.status
        hung = since is not None and time.monotonic() - since >= HUNG_AFTER
        if hung and not status.hung:
            message = "the storage thread has hung in %s for %.0f s: nothing is deleted meanwhile"
            log.error(message, self._storage.root, HUNG_AFTER)
            status.forget()
        if status.hung and not hung:
            log.warning("the storage thread has come back")
        status.hung = hung

    def tick(self) -> None:
        """Do the work that is due.

        Raises
        ------
        OSError
            When the disk fails.
        """
        if not self._may_claim() or self._was_replaced():
            return
        if not self._claimed:
            try:
                self._claim()
            except StartupError as error:
                self._storage.status.trouble = str(error)
                return
        self._storage.publish(self._published)
        now = time.monotonic()
        if now >= self._repair_at and not self._repair_incomplete():
            self._repair_at = now + RETRY_INTERVAL
        if self._retention.outputs != self._outputs:
            self._retention.outputs, self._scanned_at = self._outputs, None
        soon = max(RETRY_INTERVAL, REST * self._scan_took)
        interval = soon if self._retention.doubtful else SCAN_INTERVAL
        if self._scanned_at is None or now - self._scanned_at >= interval:
            self._retention.scan()
            self._scanned_at, self._scan_took = now, time.monotonic() - now
        wall_time = time.time()
        self._clock = self._clock or CautiousClock(wall_time, now, self._retention.newest)
        self._retention.enforce(self._clock.read(wall_time, now))

    def _run(self) -> None:
        try:
            if self._may_claim():
                self._claim()
        except Exception as error:
            self._start_error, self._stopped = error, True
        self._started.set()
        while not self._stopped:
            self._progress()
            try:
                self.tick()
                self._failure.resolved()
            except OSError as error:
                self._fail(f"storage.root {self._storage.root}: {_reason(error)}")
            except Exception as error:
                self._fail("a fault in centernetd during housekeeping", error)
            self._busy_since = None
            self._storage.wake_up.wait(INTERVAL)

    def _progress(self) -> None:
        self._busy_since = time.monotonic()

    def _fail(self, message: str, fault: Exception | None = None) -> None:
        """Log a persisting failure once; the next tick tries again."""
        self._storage.status.forget()
        if self._failure.occurred():
            log.log(logging.ERROR if fault else logging.WARNING, "%s", message, exc_info=fault)

    def _may_claim(self) -> bool:
        """Return whether the root is on an allowed disk; otherwise publish the trouble."""
        root = self._storage.root
        if not self._limits.require_mount or is_mounted(root):
            return True
        if self._claimed or self._storage.status.trouble is None:
            self._storage.status.trouble = (
                f"storage.root {root} is on the root disk, and storage.require_mount is set: "
                "nothing is written until it is mounted"
            )
            log.error("%s", self._storage.status.trouble)
        self._claimed = False
        self._storage.status.forget()
        return False

    def _was_replaced(self) -> bool:
        """Detect that another disk or folder has replaced the claimed one; return True once.

        Sinks have until the next tick to close their files; then the root is claimed again.
        """
        if not self._claimed or self._storage.is_in_place:
            return False
        self._claimed = False
        self._storage.status.trouble = (
            f"storage.root {self._storage.root} is another disk or folder than before: nothing is "
            "written until it is made ready"
        )
        log.warning("%s", self._storage.status.trouble)
        self._storage.status.forget()
        return True

    def _claim(self) -> None:
        self._storage.release()
        self._storage.claim()
        recover(self._storage.root, self._outputs, self._storage.writing)
        self._claimed, self._scanned_at = True, None
        self._storage.status.trouble = None

    def _repair_incomplete(self) -> bool:
        """Repair files that a failing disk kept sinks from completing; return whether all are."""
        all_done = True
        for path in self._storage.take_incomplete():
            try:
                inside = self._storage.contains(path.parent)
                repaired = inside and recover_recording(path, self._outputs)
            except OSError as error:
                log.warning("%s can't be completed: %s", path, error.strerror)
                self._storage.end(path, None)
                all_done = False
                continue
            if repaired:
                self._scanned_at = None
        return all_done


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def is_mounted(folder: Path) -> bool:
    """Return whether ``folder`` is, or would be, on another file system than "/"."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return existing.stat().st_dev != Path("/").stat().st_dev

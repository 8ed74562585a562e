"""The double-entry ledger of one stream's frames: none disappears uncounted."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NewType

StageName = NewType("StageName", str)
"""Where a frame can be; the values of the metric label ``stage``. Each sink names its own."""
CAPTURE, INFERENCE = StageName("capture"), StageName("inference")


class Reason(str, Enum):
    """Why a frame was dropped; the values of the metric label ``reason``."""

    OVERFLOW = "overflow"  # a newer frame of a live stream replaced it
    TOO_OLD = "too_old"  # past max_frame_age before it was enqueued
    UNWANTED = "unwanted"  # excluded by the configuration: max_fps, events.frames
    FAILED = "failed"  # it could not be written
    SHUTDOWN = "shutdown"  # the daemon stopped before it was processed


def reasons_at(stage: StageName) -> tuple[Reason, ...]:
    """Return why frames can be lost at ``stage``."""
    if stage == CAPTURE:
        return Reason.OVERFLOW, Reason.UNWANTED, Reason.SHUTDOWN
    if stage == INFERENCE:
        return Reason.TOO_OLD, Reason.SHUTDOWN
    return Reason.OVERFLOW, Reason.UNWANTED, Reason.FAILED, Reason.SHUTDOWN


@dataclass(frozen=True)
class Book:
    """A consistent snapshot of a ledger."""

    captured: int
    inferred: int
    dropped: Mapping[tuple[StageName, Reason], int]
    written: Mapping[StageName, int]
    in_flight: Mapping[StageName, int]

    def dropped_at(self, *stages: StageName) -> int:
        """Return the number of frames dropped at these stages, for any reason."""
        return sum(count for (stage, _), count in self.dropped.items() if stage in stages)

    @property
    def balanced(self) -> bool:
        """Whether the conservation equations hold."""
        before = (CAPTURE, INFERENCE)
        waiting = sum(self.in_flight[stage] for stage in before)
        return self.captured == self.inferred + self.dropped_at(*before) + waiting and all(
            self.inferred == written + self.dropped_at(sink) + self.in_flight[sink]
            for sink, written in self.written.items()
        )

    def receipt(self) -> str:
        """Return a line such as ``250 captured = 250 written + 0 dropped``.

        Written counts the recording or, without one, the events. Frames skipped because of the
        configuration are listed separately from lost ones.
        """
        sink = next(iter(self.written), None)
        done = f"{self.inferred} inferred" if sink is None else f"{self.written[sink]} written"
        lost = {
            (stage, reason): count
            for (stage, reason), count in self.dropped.items()
            if stage in (CAPTURE, INFERENCE, sink)
        }
        unwanted = sum(count for (_, reason), count in lost.items() if reason is Reason.UNWANTED)
        dropped = sum(lost.values()) - unwanted
        line = f"{self.captured} captured = {done} + {dropped} dropped"
        return f"{line} + {unwanted} not asked for" if unwanted else line


class Ledger:
    """Counts every frame of a stream when it enters and leaves a stage.

    A frame enters at `capture`, is taken up by inference, and is then owed to every sink. Each
    posting moves it from one place to another, so that at any moment
    captured = inferred + dropped + waiting, and for each sink inferred = written + dropped +
    pending. Removing a frame that was never added is a programming error and raises. A place
    that has been written off is closed: a thread that returns to it posts nothing.

    The lane posts what happens before its sinks, with the lock held; all else acquires it.
    """

    def __init__(self, sinks: Sequence[StageName], lock: "threading.RLock") -> None:
        """Count frames for ``sinks``; ``lock``, which the lane also holds, guards the counts."""
        self._lock = lock
        self._closed: set[StageName] = set()
        self._sinks = tuple(sinks)
        self._captured = 0
        self._inferred = 0
        self._written = dict.fromkeys(self._sinks, 0)
        self._in_flight = dict.fromkeys((CAPTURE, INFERENCE, *self._sinks), 0)
        self._dropped = {
            (stage, reason): 0 for stage in self._in_flight for reason in reasons_at(stage)
        }

    def capture(self) -> None:
        """Post a decoded frame, which now waits for inference; called with the lock held."""
        if CAPTURE not in self._closed:
            self._captured += 1
            self._in_flight[CAPTURE] += 1

    def take_up(self) -> None:
        """Post a frame that inference took from the channel; called with the lock held."""
        if CAPTURE not in self._closed and INFERENCE not in self._closed:
            self._leave(CAPTURE, 1)
            self._in_flight[INFERENCE] += 1

    def infer(self, count: int = 1) -> None:
        """Post ``count`` frames with finished detections, which are now owed to every sink.

        Called with the lock held.
        """
        if INFERENCE in self._closed:
            return
        self._leave(INFERENCE, count)
        self._inferred += count
        for sink in self._sinks:
            self._in_flight[sink] += count

    def write(self, sink: StageName, count: int = 1) -> None:
        """Post ``count`` frames written by ``sink``."""
        with self._lock:
            if sink not in self._closed:
                self._leave(sink, count)
                self._written[sink] += count

    def drop(self, stage: StageName, reason: Reason, count: int = 1) -> None:
        """Post ``count`` frames lost at ``stage``."""
        with self._lock:
            if stage not in self._closed:
                lost = self._dropped[stage, reason] + count
                self._leave(stage, count)
                self._dropped[stage, reason] = lost

    def write_off(self, *stages: StageName) -> None:
        """Post all frames at ``stages`` as dropped by the shutdown, and close these stages."""
        with self._lock:  # atomically: a posting in between would not find its frames
            for stage in stages:
                self._dropped[stage, Reason.SHUTDOWN] += self._in_flight[stage]
                self._in_flight[stage] = 0
            self._closed.update(stages)

    def close(self) -> None:
        """Write off all remaining frames."""
        self.write_off(*self._in_flight)

    @property
    def waiting(self) -> int:
        """Number of frames captured and neither inferred nor dropped yet."""
        with self._lock:
            return self._in_flight[CAPTURE] + self._in_flight[INFERENCE]

    def read(self) -> Book:
        """Return a consistent snapshot."""
        with self._lock:
            return Book(
                captured=self._captured,
                inferred=self._inferred,
                dropped=dict(self._dropped),
                written=dict(self._written),
                in_flight=dict(self._in_flight),
            )

    def _leave(self, stage: StageName, count: int) -> None:
        if not 0 <= count <= self._in_flight[stage]:
            raise RuntimeError(f"{count} frames can't leave {stage}")
        self._in_flight[stage] -= count

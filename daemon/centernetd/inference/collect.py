"""Collecting a batch across streams, fairly and in time."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from centernetd.flow import Frame, Lane, Reason, StageName


class Taken(NamedTuple):
    """A frame in a batch and the lane it came from."""

    lane: Lane
    frame: Frame


class Clock(Protocol):
    """Time and waiting, replaced in tests."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on ``condition``, which is held, for at most ``timeout`` seconds."""


class SystemClock:
    """The monotonic clock of this machine."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on ``condition``, which is held, for at most ``timeout`` seconds."""
        condition.wait(timeout)


def collect(
    lanes: Sequence[Lane],
    ready: threading.Condition,
    max_size: int,
    max_delay: float,
    limit: Callable[[Lane, Frame], int],
    clock: Clock,
) -> list[Taken]:
    """Take up to ``max_size`` frames, waiting at most ``max_delay`` seconds after the first.

    Lanes are served round-robin, one frame per turn, in the order given; see `in_turn`.
    ``limit`` returns the largest batch in which a frame would still be in time; 0 drops it as
    too old. No batch exceeds the limit of any of its frames. Return an empty list when every
    lane is closed and drained.
    """
    batch: list[Taken] = []
    deadline: float | None = None
    with ready:
        while True:
            complete = _fill(batch, lanes, max_size, limit)
            if complete or all(lane.closed for lane in lanes):
                return batch
            if batch and deadline is None:
                deadline = clock.now() + max_delay
            timeout = None if deadline is None else deadline - clock.now()
            if timeout is not None and timeout <= 0:
                return batch
            clock.wait(ready, timeout)


def in_turn(lanes: Sequence[Lane], batch: Sequence[Taken]) -> list[Lane]:
    """Return ``lanes`` in the order for the batch after ``batch``: longest waiting first.

    So no lane is served twice between two turns of another lane with frames waiting, even
    across batches.
    """
    last_turn = {taken.lane: turn for turn, taken in enumerate(batch)}
    return sorted(lanes, key=lambda lane: last_turn.get(lane, -1))


def _fill(
    batch: list[Taken],
    lanes: Sequence[Lane],
    max_size: int,
    limit: Callable[[Lane, Frame], int],
) -> bool:
    """Add waiting frames to ``batch``, in turns; return whether the batch must not grow."""
    room = min([max_size, *(limit(*member) for member in batch)])
    taken = True
    while taken:
        taken = False
        for lane in lanes:
            first = _first_in_time(lane, limit)
            if first is None:
                continue
            frame, allowed = first
            if batch and min(room, allowed) <= len(batch):
                return True  # adding it would make one of them late: it leads the next batch
            lane.take()
            taken = True
            batch.append(Taken(lane, frame))
            room = min(room, allowed)
            if len(batch) >= room:
                return True
    return len(batch) >= room


def _first_in_time(lane: Lane, limit: Callable[[Lane, Frame], int]) -> tuple[Frame, int] | None:
    """Return the first frame that is not too old, and its limit; drop those before it."""
    while (frame := lane.peek()) is not None:
        if allowed := limit(lane, frame):
            return frame, allowed
        lane.take()
        lane.drop(StageName.INFERENCE, Reason.TOO_OLD)
    return None

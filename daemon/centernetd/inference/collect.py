"""Which frames go in a batch: collected across streams, fairly and in time."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from centernetd.flow import INFERENCE, Arrivals, Backpressure, Frame, Lane, Reason

_WEIGHT = 0.2  # of the newest batch in the moving average: settles within about ten batches


@dataclass(frozen=True)
class Batching:
    """How batches are formed: at most ``max_size`` frames, ``max_delay`` seconds of waiting."""

    max_size: int
    max_delay: float


class Taken(NamedTuple):
    """A frame in a batch, its lane, and the time after which it is of no use (or infinity)."""

    lane: Lane
    frame: Frame
    deadline: float


class Clock(Protocol):
    """Time and waiting, replaced in tests."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on ``condition``, which is held, for at most ``timeout`` seconds."""


class SystemClock(Clock):
    """The monotonic clock of this machine."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on ``condition``, which is held, for at most ``timeout`` seconds."""
        condition.wait(timeout)


class Forecast:
    """Predicts the seconds from collecting a batch to its detections, by batch size.

    Each size has an exponential moving average. A size is assumed to take no longer than a
    larger one that was seen, and no longer per frame than a smaller one. So one slow batch does
    not exclude its size permanently: the sizes still used show when it is over.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Record that a batch of ``size`` took ``seconds``."""
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _WEIGHT * (seconds - known)

    def predict(self, size: int) -> float:
        """Return the predicted seconds for a batch of ``size``; 0 while nothing is known."""
        bounds = (took * max(1.0, size / known) for known, took in self._seconds.items())
        return min(bounds, default=0.0)


def collect(
    lanes: Sequence[Lane],
    arrivals: Arrivals,
    batching: Batching,
    forecast: Forecast,
    clock: Clock,
) -> list[Taken]:
    """Take up to ``max_size`` frames, waiting at most ``max_delay`` seconds after the first.

    ``lanes`` are those that may have frames in ``arrivals``; they are served in turns, one frame
    per turn. Frames past their deadline are dropped as too old. A batch does not grow to a size
    that, by the ``forecast``, would be finished after the deadline of one of its frames. Return an
    empty list when every lane is closed and drained.
    """
    batch: list[Taken] = []
    wait_until: float | None = None
    with arrivals:
        while True:
            complete = _fill(batch, arrivals, batching.max_size, forecast, clock.now())
            if complete or all(lane.closed for lane in lanes):
                return batch
            if batch and wait_until is None:
                wait_until = clock.now() + batching.max_delay
            timeout = None if wait_until is None else wait_until - clock.now()
            if timeout is not None and timeout <= 0:
                return batch
            arrivals.enough = batching.max_size - len(batch) if batch else 1
            clock.wait(arrivals, timeout)


def _fill(
    batch: list[Taken], arrivals: Arrivals, max_size: int, forecast: Forecast, now: float
) -> bool:
    """Add waiting frames to ``batch``, in turns; return whether the batch must not grow.

    Each frame is judged once, since ``arrivals`` is held meanwhile.
    """
    due = min((taken.deadline for taken in batch), default=inf)
    # When a batch with one more frame would be finished. A single frame is always tried.
    finished = now + forecast.predict(len(batch) + 1) if batch else -inf
    while len(batch) < max_size and finished <= due:
        lane = arrivals.next()
        if lane is None:
            return False
        first = _first_in_time(lane, now)
        if first is None:
            continue
        if finished > first.deadline:
            arrivals.requeue(lane, first=True)  # it would be late in this batch: it leads the next
            return True
        lane.take()
        if lane.waiting:
            arrivals.requeue(lane)
        batch.append(first)
        due = min(due, first.deadline)
        finished = now + forecast.predict(len(batch) + 1)
    return True


def _first_in_time(lane: Lane, now: float) -> Taken | None:
    """Return the first frame that is not too old; drop those before it."""
    while (frame := lane.peek()) is not None:
        deadline = _deadline(lane, frame)
        if deadline >= now:
            return Taken(lane, frame, deadline)
        lane.take()
        lane.drop(INFERENCE, Reason.TOO_OLD)
    return None


def _deadline(lane: Lane, frame: Frame) -> float:
    if lane.backpressure is Backpressure.BLOCK or lane.max_frame_age is None:
        return inf
    return frame.captured_at + lane.max_frame_age

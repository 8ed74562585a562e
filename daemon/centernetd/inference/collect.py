"""Which frames go in a batch: collected across streams, fairly and in time."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

import numpy as np

from centernetd.flow import Arrivals, Frame, Inbox, Lane, Ticket

_WEIGHT = 0.2  # of the newest batch in the moving average: settles within about ten batches


@dataclass(frozen=True)
class Batching:
    """How batches are formed: at most ``max_size`` frames, ``max_delay`` seconds of waiting."""

    max_size: int
    max_delay: float


class Taken(NamedTuple):
    """A frame in a batch, its inbox, and the time after which it is of no use (or infinity)."""

    inbox: Inbox
    ticket: Ticket
    deadline: float

    @property
    def lane(self) -> Lane:
        """The lane of the frame."""
        return self.inbox.lane

    @property
    def frame(self) -> Frame:
        """The frame itself."""
        return self.ticket.frame


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
        # One thread learns, and replaces this whole; another predicts, for every frame.
        self._predictions: Sequence[float] = [0.0]  # by size, up to the largest that was seen

    def learn(self, size: int, seconds: float) -> None:
        """Record that a batch of ``size`` took ``seconds``."""
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _WEIGHT * (seconds - known)
        sizes = np.arange(1, max(self._seconds) + 1)
        seen = np.array([self._seconds.get(size, inf) for size in sizes.tolist()])
        per_frame = np.minimum.accumulate(seen / sizes)
        not_longer = np.minimum.accumulate(seen[::-1])[::-1]
        self._predictions = [0.0, *np.minimum(per_frame * sizes, not_longer).tolist()]

    def predict(self, size: int) -> float:
        """Return the predicted seconds for a batch of ``size``; 0 while nothing is known."""
        predictions = self._predictions
        if size < len(predictions):
            return predictions[size]
        largest = len(predictions) - 1
        return predictions[-1] * size / max(1, largest)


def collect(
    inboxes: Sequence[Inbox],
    arrivals: Arrivals,
    batching: Batching,
    forecast: Forecast,
    clock: Clock,
) -> list[Taken]:
    """Take up to ``max_size`` frames, waiting at most ``max_delay`` seconds after the first.

    ``inboxes`` are those that may be in ``arrivals``; they are served in turns, one frame
    per turn. Frames past their deadline are dropped as too old. A batch does not grow to a size
    that, by the ``forecast``, would be finished after the deadline of one of its frames, nor wait
    until it can't grow. It waits no longer than it takes, so that waiting at most doubles the
    latency. Return an empty list when every inbox is closed and drained.
    """
    batch: list[Taken] = []
    wait_until = inf
    while True:
        ending = all(inbox.closed for inbox in inboxes)  # and so offers nothing after this
        now = clock.now()
        if _fill(batch, arrivals, batching.max_size, forecast, now) or ending:
            return batch
        if not batch:
            arrivals.wait(1, None, clock.wait)
            continue
        patience = min(batching.max_delay, forecast.predict(len(batch)) or inf)
        grows_until = _due(batch) - forecast.predict(len(batch) + 1)
        wait_until = min(wait_until, now + patience, grows_until)
        if wait_until <= now:
            return batch
        arrivals.wait(batching.max_size - len(batch), wait_until - now, clock.wait)


def _fill(
    batch: list[Taken], arrivals: Arrivals, max_size: int, forecast: Forecast, now: float
) -> bool:
    """Add waiting frames to ``batch``, in turns; return whether the batch must not grow."""
    due = _due(batch)
    # When a batch with one more frame would be finished. A single frame is always tried.
    finished = now + forecast.predict(len(batch) + 1) if batch else -inf
    while len(batch) < max_size and finished <= due:
        inbox = arrivals.next()
        if inbox is None:
            return False
        deadline = inbox.drop_overdue(now)
        if deadline is None:
            continue
        if finished > deadline:
            arrivals.requeue(inbox, first=True)  # it would be late in this batch: it leads the next
            return True
        ticket = inbox.take()
        if ticket is None:
            continue  # discarded meanwhile
        if inbox.waiting:
            arrivals.requeue(inbox)
        batch.append(Taken(inbox, ticket, inbox.lane.deadline(ticket.frame)))
        due = min(due, deadline)
        finished = now + forecast.predict(len(batch) + 1)
    return True


def _due(batch: Sequence[Taken]) -> float:
    return min((taken.deadline for taken in batch), default=inf)

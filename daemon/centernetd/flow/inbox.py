"""Where the frames of a lane wait for one of its models, and what is found in them meanwhile."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from centernetd.flow.arrivals import Arrivals
from centernetd.flow.frame import Detections, Frame
from centernetd.flow.ledger import INFERENCE, Reason

if TYPE_CHECKING:
    from centernetd.flow.lane import Lane


class Ticket:
    """A frame in inference, and what models have found in it so far.

    It is ``settled`` once it has been dropped: what is still found in it is discarded.
    """

    __slots__ = ("found", "frame", "settled")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.found: dict[str, Detections] = {}
        self.settled = False


class Inbox:
    """The frames of one lane that wait for one of its models, in order.

    Until a model takes a frame, it waits for all of them in the lane, where a newer one may
    replace it. Then it waits in the others' ``backlog``, and no more of them than may wait in the
    lane: a fast model does not run ahead of a slow one, to find things in frames that the slow one
    never gets to. If one model drops a frame, it is lost to all.
    """

    def __init__(self, lane: "Lane", model: str, arrivals: Arrivals) -> None:
        self.lane = lane
        self.model = model
        self.arrivals = arrivals
        self.backlog: deque[Ticket] = deque()
        self.others: Sequence[Inbox] = ()
        """The lane's inboxes for its other models."""
        self._taken = self._left = 0  # frames, up to now

    @property
    def closed(self) -> bool:
        """Whether no more frames come; those that wait can still be taken."""
        return self.lane.closed

    @property
    def waiting(self) -> int:
        """Number of frames that can be taken now, if nobody else acts meanwhile."""
        return len(self.backlog) + (self.lane.waiting if self._may_lead else 0)

    @property
    def pending(self) -> int:
        """Number of frames that wait for this model or are in its hands."""
        with self.lane.lock:
            return 0 if self.lane.abandoned else self.waiting + self._taken - self._left

    def drop_overdue(self, now: float) -> float | None:
        """Drop waiting frames whose deadline is over; return that of the oldest left, if any.

        When it is taken, capture may have replaced it by a newer one.
        """
        with self.lane.lock:
            while (oldest := self._oldest) is not None:
                deadline = self.lane.deadline(oldest)
                if deadline >= now:
                    return deadline
                ticket = self.take()
                if ticket is not None:
                    self.drop(ticket, Reason.TOO_OLD)
            return None

    def take(self) -> Ticket | None:
        """Remove and return the oldest waiting frame; None if there is none."""
        lane = self.lane
        with lane.lock:
            if self.backlog:
                was_full = len(self.backlog) >= lane.capacity
                ticket = self.backlog.popleft()
            elif self._may_lead and (frame := lane.take()) is not None:
                was_full = False
                ticket = Ticket(frame)
                for other in self.others:
                    other.backlog.append(ticket)
            else:
                return None
            self._taken += 1
        if was_full:
            for other in self.others:
                other.arrivals.announce(other)
        return ticket

    def drop(self, ticket: Ticket, reason: Reason) -> None:
        """Count a frame that was taken as lost, for every model, unless it is already."""
        with self.lane.lock:
            self._left += 1
            self._settle(ticket, reason)

    def finish(self, ticket: Ticket, found: Detections) -> Sequence[Detections] | None:
        """Note what was found in a frame; return what all models found once all have run."""
        with self.lane.lock:
            self._left += 1
            if not self.others:
                return (found,)
            ticket.found[self.model] = found
            if ticket.settled or len(ticket.found) < len(self.lane.inboxes):
                return None
            return [ticket.found[model] for model in self.lane.inboxes]

    def discard(self) -> None:
        """Drop the frames that other models have taken and this one has not."""
        with self.lane.lock:
            for ticket in tuple(self.backlog):
                self._settle(ticket, Reason.SHUTDOWN)

    @property
    def _oldest(self) -> Frame | None:
        """The frame that is taken next, if any."""
        if self.backlog:
            return self.backlog[0].frame
        return self.lane.oldest if self._may_lead else None

    @property
    def _may_lead(self) -> bool:
        """Whether this model may take a frame before all others; at the end it always may."""
        if not self.others or self.lane.closed:
            return True
        capacity = self.lane.capacity
        return all(len(other.backlog) < capacity for other in self.others)

    def _settle(self, ticket: Ticket, reason: Reason) -> None:
        if ticket.settled:
            return
        ticket.settled = True
        for inbox in self.lane.inboxes.values():
            if ticket in inbox.backlog:
                inbox.backlog.remove(ticket)
        self.lane.drop(INFERENCE, reason)
        if self.others:  # one of them may lead again
            self.lane.announce_frame(urgent=False)

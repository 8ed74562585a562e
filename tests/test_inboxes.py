"""The inboxes of a lane: every frame passes each of its models, or is lost to all of them."""

from collections import deque

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from centernetd.flow import (
    CAPTURE,
    INFERENCE,
    Arrivals,
    Backpressure,
    Detections,
    Lane,
    Reason,
    Result,
    Ticket,
)
from centernetd.sink.registry import EVENTS
from tests.fakes import detections
from tests.lane_rules import LaneRules

MODELS = ("faces", "coco", "plates")


def found_by(model: str) -> Detections:
    """A detection that shows which model it is of."""
    found = detections(1)
    found.class_id[:] = MODELS.index(model)
    return found


class Models(LaneRules):
    """Drives the inboxes of a lane, and a plain account of where each frame must be."""

    backpressure = Backpressure.DROP_OLDEST
    depth, inbox = 6, 2
    frames_before_end = 6

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        self.models = MODELS[:count]
        self.arrivals = {model: Arrivals() for model in self.models}
        self.lane = Lane(
            "gate",
            self.backpressure,
            depth=self.depth,
            inbox=self.inbox,
            arrivals=self.arrivals,
            sinks=[EVENTS],
            max_frame_age=10.0,
        )
        self.backlog: dict[str, deque[int]] = {model: deque() for model in self.models}
        self.held: dict[str, list[Ticket]] = {model: [] for model in self.models}
        self.found: dict[int, set[str]] = {}  # by frame that is in inference
        self.delivered: list[int] = []

    def beyond(self) -> int:
        return len(self.found) + len(self.lane.outlets[EVENTS])

    def lose_waiting(self) -> None:
        for number in [*self.waiting, *(n for each in self.backlog.values() for n in each)]:
            self.lose(number)

    def may_lead(self, model: str) -> bool:
        others = (self.backlog[other] for other in self.models if other != model)
        return self.closed or all(len(backlog) < self.capacity for backlog in others)

    def next_of(self, model: str) -> int | None:
        if self.backlog[model]:
            return self.backlog[model].popleft()
        if not self.waiting or not self.may_lead(model):
            return None
        number = self.waiting.popleft()
        self.found[number] = set()
        for other in self.models:
            if other != model:
                self.backlog[other].append(number)
        return number

    @rule(which=st.integers(0, 2))
    def take(self, which: int) -> None:
        model = self.models[which % len(self.models)]
        arrivals = self.arrivals[model]
        inbox = arrivals.next()
        if inbox is None:
            return
        ticket = inbox.take()
        assert (ticket and ticket.frame.frame_id) == self.next_of(model)
        self.held[model] += [ticket] if ticket else []
        if inbox.waiting:
            arrivals.requeue(inbox)

    @rule(which=st.integers(0, 2))
    def finish(self, which: int) -> None:
        """A model finishes its frames in the order in which it took them."""
        model = self.models[which % len(self.models)]
        if not self.held[model]:
            return
        ticket = self.held[model].pop(0)
        number = ticket.frame.frame_id
        found = self.lane.inboxes[model].finish(ticket, found_by(model))
        is_complete = False
        if number in self.found:
            self.found[number].add(model)
            is_complete = len(self.found[number]) == len(self.models)
        assert (found is not None) == is_complete
        if found is not None:
            del self.found[number]
            joined = Detections.joined(found)
            np.testing.assert_array_equal(np.sort(joined.class_id), np.arange(len(self.models)))
            self.lane.deliver(Result(ticket.frame, joined))
            self.delivered.append(number)

    @rule(which=st.integers(0, 2), data=st.data())
    def drop(self, which: int, data: st.DataObject) -> None:
        """A model finds a frame too old after it took it."""
        model = self.models[which % len(self.models)]
        if self.held[model]:
            position = data.draw(st.integers(0, len(self.held[model]) - 1))
            ticket = self.held[model].pop(position)
            self.lane.inboxes[model].drop(ticket, Reason.TOO_OLD)
            self.lose(ticket.frame.frame_id)

    @precondition(lambda self: self.captured > 5)
    @rule(which=st.integers(0, 2), age=st.integers(0, 12))
    def drop_overdue(self, which: int, age: int) -> None:
        """A frame of a live stream is of use for ten seconds."""
        model, now = self.models[which % len(self.models)], float(self.captured + age)
        lasts = np.inf if self.blocks else 10.0
        left = self.lane.inboxes[model].drop_overdue(now)
        while waiting := [*self.backlog[model], *(self.waiting if self.may_lead(model) else ())]:
            if waiting[0] + lasts >= now:
                break
            self.lose(waiting[0])  # which may let this model lead
        assert left == (waiting[0] + lasts if waiting else None)

    def lose(self, number: int) -> None:
        if number in self.waiting:
            self.waiting.remove(number)
        self.found.pop(number, None)
        for backlog in self.backlog.values():
            if number in backlog:
                backlog.remove(number)

    @rule()
    def read(self) -> None:
        if self.lane.outlets[EVENTS].take() is not None:
            self.lane.ledger.write(EVENTS)

    @invariant()
    def every_frame_is_counted_once(self) -> None:
        book = self.lane.ledger.read()
        assert book.balanced
        assert book.captured == self.captured
        assert book.in_flight[CAPTURE] == len(self.waiting) == self.lane.waiting
        assert book.in_flight[INFERENCE] == (0 if self.gone else len(self.found))
        if not self.gone:
            assert book.inferred == len(self.delivered)

    @invariant()
    def frames_leave_in_order(self) -> None:
        assert self.delivered == sorted(set(self.delivered))

    @invariant()
    def no_model_runs_ahead(self) -> None:
        for model, inbox in self.lane.inboxes.items():
            assert [ticket.frame.frame_id for ticket in inbox.backlog] == [*self.backlog[model]]
            assert self.closed or len(inbox.backlog) <= self.capacity
            waiting = len(self.backlog[model]) + len(self.waiting) * self.may_lead(model)
            assert inbox.waiting == waiting
            held = len(self.held[model])
            assert inbox.pending == (0 if self.gone else waiting + held)

    @invariant()
    def what_can_be_taken_is_announced(self) -> None:
        for model, inbox in self.lane.inboxes.items():
            arrivals = self.arrivals[model]
            if inbox.waiting:
                assert inbox in [*arrivals._announced, *arrivals._turns]

    @invariant()
    def some_model_can_go_on(self) -> None:
        """Two models never wait for one another."""
        if self.waiting or any(self.backlog.values()):
            assert any(inbox.waiting for inbox in self.lane.inboxes.values())


class LosslessModels(Models):
    backpressure = Backpressure.BLOCK


for machine in (Models, LosslessModels):
    machine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestLiveModels = Models.TestCase
TestLosslessModels = LosslessModels.TestCase

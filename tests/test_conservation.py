"""Conservation: a lane's book balances at every step of whatever happens to it."""

import math
import random
import time
from collections import deque
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from centernetd.errors import EngineError
from centernetd.flow import (
    CAPTURE,
    INFERENCE,
    Arrivals,
    Backpressure,
    Frame,
    Lane,
    Reason,
    Result,
    StageName,
    Worker,
)
from centernetd.inference.collect import SystemClock
from tests.fakes import WAIT_TIMEOUT, detections, frame
from tests.lane_rules import LaneRules
from tests.test_lane import BLOCK, DROP, SINKS, a_lane


class LaneMachine(LaneRules):
    """Drives a lane and a model of it, step by step, through anything that may happen."""

    backpressure = DROP
    depth, inbox = 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.lane = a_lane(self.backpressure, depth=self.depth, inbox=self.inbox)
        self.held: list[Frame] = []
        self.owed: dict[StageName, deque[int]] = {sink: deque() for sink in SINKS}

    def beyond(self) -> int:
        return len(self.held) + max(map(len, self.owed.values()))

    @rule()
    def skip(self) -> None:
        self.lane.skip()
        self.captured += not self.gone

    @rule()
    def take(self) -> None:
        taken = self.lane.take()
        assert (taken and taken.frame_id) == (self.waiting.popleft() if self.waiting else None)
        self.held += [taken] if taken else []

    @precondition(lambda self: self.held)
    @rule()
    def deliver(self) -> None:
        delivered = self.held.pop(0)
        self.lane.deliver(Result(delivered, detections()))
        if self.gone:
            return
        for owed in self.owed.values():
            owed.append(delivered.frame_id)
            if len(owed) > self.depth:
                owed.popleft()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.lane.drop(INFERENCE, Reason.TOO_OLD)

    @rule(sink=st.sampled_from(SINKS), written=st.booleans())
    def serve(self, sink: StageName, written: bool) -> None:
        result = self.lane.outlets[sink].take()
        owed = self.owed[sink]
        assert (result and result.frame.frame_id) == (owed.popleft() if owed else None)
        if result and written:
            self.lane.ledger.write(sink)
        elif result:
            self.lane.ledger.drop(sink, Reason.FAILED)

    @invariant()
    def adds_up(self) -> None:
        book = self.lane.ledger.read()
        assert book.balanced
        assert book.captured == self.captured
        assert book.in_flight[CAPTURE] == len(self.waiting) == self.lane.waiting
        assert book.in_flight[INFERENCE] == (0 if self.gone else len(self.held))
        for sink, owed in self.owed.items():
            assert book.in_flight[sink] == len(owed)

    @invariant()
    def outlets_close_with_the_last_frame(self) -> None:
        drained = self.closed and not self.waiting and (self.gone or not self.held)
        assert all(outlet.closed == drained for outlet in self.lane.outlets.values())

    @invariant()
    def a_blocking_lane_loses_nothing_by_itself(self) -> None:
        dropped = self.lane.ledger.read().dropped
        if self.blocks:
            assert not any(n for (_, reason), n in dropped.items() if reason is Reason.OVERFLOW)


class BlockingLaneMachine(LaneMachine):
    backpressure = BLOCK


for machine in (LaneMachine, BlockingLaneMachine):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDroppingLane = LaneMachine.TestCase
TestBlockingLane = BlockingLaneMachine.TestCase


class Inference:
    """Takes up frames of some lanes, drops a few, and may die with frames in its hands."""

    def __init__(self, lanes: list[Lane], arrivals: Arrivals, dies_after: float) -> None:
        self._lanes, self._arrivals, self._left = lanes, arrivals, dies_after

    def run(self) -> None:
        while not all(lane.closed and not lane.waiting for lane in self._lanes):
            while self._arrivals.next():
                pass
            taken = [(lane, lane.take()) for lane in self._lanes]
            if not any(got for _, got in taken):
                self._arrivals.wait(1, WAIT_TIMEOUT, SystemClock().wait)
                continue
            self._left -= 1
            if self._left < 0:
                raise EngineError("died")
            for lane, got in taken:
                if got and random.random() < 0.1:
                    lane.drop(INFERENCE, Reason.TOO_OLD)
                elif got:
                    lane.deliver(Result(got, detections()))


def capture(lane: Lane, count: int) -> None:
    for n in range(count):
        if random.random() < 0.1:
            lane.skip()
        else:
            lane.offer(frame(n))
    lane.close()


def serve(lane: Lane, sink: StageName) -> None:
    last = -1
    for result in lane.outlets[sink]:
        assert result.frame.frame_id > last
        last = result.frame.frame_id
        lane.ledger.write(sink)


@pytest.mark.parametrize(
    ("backpressure", "dies_after"), [(BLOCK, None), (BLOCK, 50), (DROP, None), (DROP, 1)]
)
def test_the_book_balances_at_any_moment_of_a_threaded_run(
    backpressure: Backpressure, dies_after: int | None
) -> None:
    """Two lanes, one inference, two sinks each; the inference may die in the middle."""
    arrivals = Arrivals()
    lanes = [a_lane(backpressure, depth=3, arrivals=arrivals) for _ in range(2)]

    def bury(_: Worker) -> None:
        for lane in lanes:
            lane.abandon()

    jobs = [partial(capture, lane, 300) for lane in lanes]
    jobs += [partial(serve, lane, sink) for lane in lanes for sink in SINKS]
    inference = Worker("inference", Inference(lanes, arrivals, dies_after or math.inf).run, bury)
    others = [Worker("other", job, lambda _: None) for job in jobs]
    for worker in (inference, *others):
        worker.start()
    while any(worker.alive for worker in (inference, *others)):
        assert all(lane.ledger.read().balanced for lane in lanes)
        inference.join(time.monotonic() + 0.001)
    assert [worker.error for worker in others] == [None] * len(others)
    died = isinstance(inference.error, EngineError)
    assert died == (dies_after is not None)
    for lane in lanes:
        book = lane.ledger.read()
        assert book.balanced
        assert not any(book.in_flight.values())
        assert died or book.captured == 300
        assert backpressure is DROP or book.dropped_at(*SINKS) == 0

"""Lanes: order, two kinds of backpressure, and a book that balances at every step."""

import math
import random
import threading
import time
from collections import deque
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.errors import EngineError
from daemon.flow import Backpressure, Frame, Lane, Reason, StageName, Worker
from tests.fakes import PATIENCE, detections, frame, wait_until

BLOCK, DROP = Backpressure.BLOCK, Backpressure.DROP_OLDEST
SINKS = (StageName.RECORD, StageName.EVENTS)
CAPTURE, INFERENCE = StageName.CAPTURE, StageName.INFERENCE


def a_lane(
    backpressure: Backpressure = DROP,
    *,
    depth: int = 4,
    inbox: int = 2,
    sinks: tuple[StageName, ...] = SINKS,
    ready: threading.Condition | None = None,
) -> Lane:
    ready = ready or threading.Condition()
    return Lane("lane", backpressure, depth=depth, inbox=inbox, ready=ready, sinks=sinks)


def infer(lane: Lane) -> int:
    taken = lane.take()
    assert taken is not None
    lane.deliver(taken, detections())
    return taken.frame_id


def read(lane: Lane, sink: StageName) -> list[int]:
    ids = []
    while (result := lane.outlets[sink].take()) is not None:
        lane.ledger.write(sink)
        ids.append(result.frame.frame_id)
    return ids


def offered_in_a_thread(lane: Lane, offered: Frame) -> tuple[threading.Thread, list[bool]]:
    """Offer a frame where it blocks, and return once it does."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(lane.offer(offered)), daemon=True)
    thread.start()
    wait_until(lambda: bool(lane._moved._waiters))  # type: ignore[attr-defined]
    return thread, answers


def test_frames_reach_every_sink_in_order() -> None:
    lane = a_lane(BLOCK)
    for n in range(3):
        assert lane.offer(frame(n))
    assert [infer(lane) for _ in range(3)] == [0, 1, 2]
    lane.close()
    assert [read(lane, sink) for sink in SINKS] == [[0, 1, 2], [0, 1, 2]]
    book = lane.ledger.read()
    assert book.balanced
    assert not any(book.in_flight.values())


def test_a_dropping_lane_keeps_the_newest_frames() -> None:
    lane = a_lane(DROP, inbox=2)
    assert all(lane.offer(frame(n)) for n in range(5))
    assert lane.waiting == 2
    assert [infer(lane), infer(lane)] == [3, 4]
    assert lane.ledger.read().dropped[CAPTURE, Reason.OVERFLOW] == 3


def test_a_slow_sink_of_a_dropping_lane_loses_its_oldest_and_the_other_sink_nothing() -> None:
    lane = a_lane(DROP, depth=2)
    for n in range(5):
        lane.offer(frame(n))
        infer(lane)
        assert read(lane, StageName.EVENTS) == [n]
    assert read(lane, StageName.RECORD) == [3, 4]
    book = lane.ledger.read()
    assert book.dropped[StageName.RECORD, Reason.OVERFLOW] == 3
    assert book.dropped_at(StageName.EVENTS) == 0
    assert book.balanced


@pytest.mark.parametrize("sinks", [SINKS, (StageName.EVENTS,), ()])
def test_a_blocking_lane_never_drops_and_waits_for_its_slowest_sink(
    sinks: tuple[StageName, ...],
) -> None:
    lane = a_lane(BLOCK, depth=2, sinks=sinks)
    assert lane.offer(frame(0))
    assert lane.offer(frame(1))
    thread, answers = offered_in_a_thread(lane, frame(2))
    infer(lane)
    for sink in sinks:
        assert thread.is_alive()
        read(lane, sink)
    thread.join(PATIENCE)
    assert answers == [True]
    assert lane.ledger.read().dropped_at(CAPTURE, INFERENCE, *sinks) == 0


def test_a_frame_dropped_before_the_sinks_makes_room() -> None:
    lane = a_lane(BLOCK, depth=1)
    lane.offer(frame(0))
    thread, answers = offered_in_a_thread(lane, frame(1))
    lane.take()
    lane.drop(INFERENCE, Reason.TOO_OLD)
    thread.join(PATIENCE)
    assert answers == [True]


@pytest.mark.parametrize("end", [Lane.close, Lane.discard, Lane.abandon])
def test_a_blocked_offer_is_woken_by_the_end_and_its_frame_not_counted(end: object) -> None:
    assert callable(end)
    lane = a_lane(BLOCK, depth=1)
    lane.offer(frame(0))
    thread, answers = offered_in_a_thread(lane, frame(1))
    end(lane)
    thread.join(PATIENCE)
    assert answers == [False]
    assert lane.ledger.read().captured == 1
    assert lane.ledger.read().balanced


def test_a_closed_lane_lets_nothing_in_and_drains() -> None:
    lane = a_lane()
    lane.offer(frame(0))
    lane.offer(frame(1))
    lane.close()
    assert not lane.offer(frame(2))
    assert not any(outlet.closed for outlet in lane.outlets.values())
    infer(lane)
    taken = lane.take()
    assert taken is not None
    assert not any(outlet.closed for outlet in lane.outlets.values())
    lane.deliver(taken, detections())
    assert all(outlet.closed for outlet in lane.outlets.values())
    assert [result.frame.frame_id for result in lane.outlets[StageName.RECORD]] == [0, 1]


def test_an_empty_lane_that_closes_closes_its_outlets() -> None:
    lane = a_lane()
    lane.close()
    assert all(outlet.closed for outlet in lane.outlets.values())


def test_the_last_frame_may_be_dropped_rather_than_delivered() -> None:
    lane = a_lane()
    lane.offer(frame(0))
    lane.close()
    lane.take()
    lane.drop(INFERENCE, Reason.TOO_OLD)
    assert all(outlet.closed for outlet in lane.outlets.values())


def test_discarding_drops_what_waits_and_lets_what_is_inferred_through() -> None:
    lane = a_lane(BLOCK)
    for n in range(3):
        lane.offer(frame(n))
    taken = lane.take()
    assert taken is not None
    lane.discard()
    assert lane.take() is None
    assert lane.ledger.read().dropped[CAPTURE, Reason.SHUTDOWN] == 2
    lane.deliver(taken, detections())
    assert read(lane, StageName.EVENTS) == [0]
    assert lane.outlets[StageName.EVENTS].closed
    assert lane.ledger.read().balanced


def test_abandoning_writes_off_what_inference_held_and_lets_the_sinks_finish() -> None:
    lane = a_lane(BLOCK)
    for n in range(4):
        lane.offer(frame(n))
    infer(lane)
    lane.take()
    lane.abandon()
    dropped = lane.ledger.read().dropped
    assert (dropped[CAPTURE, Reason.SHUTDOWN], dropped[INFERENCE, Reason.SHUTDOWN]) == (2, 1)
    assert [read(lane, sink) for sink in SINKS] == [[0], [0]]
    assert all(outlet.closed for outlet in lane.outlets.values())
    book = lane.ledger.read()
    assert book.balanced
    assert not any(book.in_flight.values())


def test_what_inference_holds_cannot_be_delivered_after_it_was_written_off() -> None:
    lane = a_lane()
    lane.offer(frame(0))
    taken = lane.take()
    assert taken is not None
    lane.abandon()
    with pytest.raises(RuntimeError, match="can't leave inference"):
        lane.deliver(taken, detections())
    assert lane.ledger.read().balanced


def test_a_full_lane_holds_up_no_other() -> None:
    ready = threading.Condition()
    full, free = a_lane(BLOCK, depth=1, ready=ready), a_lane(BLOCK, depth=1, ready=ready)
    full.offer(frame(0))
    thread, answers = offered_in_a_thread(full, frame(1))
    for n in range(3):
        assert free.offer(frame(n))
        assert infer(free) == n
        for sink in SINKS:
            assert read(free, sink) == [n]
    assert thread.is_alive()
    full.close()
    thread.join(PATIENCE)
    assert answers == [False]


def test_a_skipped_frame_is_captured_and_dropped() -> None:
    lane = a_lane()
    lane.skip()
    book = lane.ledger.read()
    assert (book.captured, book.dropped[CAPTURE, Reason.UNWANTED]) == (1, 1)
    assert book.balanced


class LaneMachine(RuleBasedStateMachine):
    """Drives a lane and a model of it, step by step, through anything that may happen."""

    backpressure = DROP

    def __init__(self) -> None:
        super().__init__()
        self.lane = a_lane(self.backpressure, depth=3, inbox=2)
        self.captured = 0
        self.inbox: deque[int] = deque()
        self.held: list[Frame] = []
        self.owed: dict[StageName, deque[int]] = {sink: deque() for sink in SINKS}
        self.closed = self.gone = False

    def would_block(self) -> bool:
        waiting = len(self.inbox) + len(self.held)
        full = waiting + max(map(len, self.owed.values())) >= 3
        return self.backpressure is BLOCK and full and not self.closed

    @precondition(lambda self: not self.would_block())
    @rule()
    def offer(self) -> None:
        assert self.lane.offer(frame(self.captured)) is not self.closed
        if not self.closed:
            self.inbox.append(self.captured)
            self.captured += 1
            if self.backpressure is DROP and len(self.inbox) > 2:
                self.inbox.popleft()

    @rule()
    def skip(self) -> None:
        self.lane.skip()
        self.captured += 1

    @rule()
    def take(self) -> None:
        taken = self.lane.take()
        assert (taken and taken.frame_id) == (self.inbox.popleft() if self.inbox else None)
        self.held += [taken] if taken else []

    @precondition(lambda self: self.held)
    @rule()
    def deliver(self) -> None:
        delivered = self.held.pop(0)
        self.lane.deliver(delivered, detections())
        for owed in self.owed.values():
            owed.append(delivered.frame_id)
            if len(owed) > 3:
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

    @rule(end=st.sampled_from([Lane.close, Lane.discard, Lane.abandon]))
    def end(self, end: object) -> None:
        assert callable(end)
        end(self.lane)
        self.closed = True
        if end is not Lane.close:
            self.inbox.clear()
        if end is Lane.abandon:
            self.held.clear()

    @invariant()
    def adds_up(self) -> None:
        book = self.lane.ledger.read()
        assert book.balanced
        assert book.captured == self.captured
        assert book.in_flight[CAPTURE] == len(self.inbox) == self.lane.waiting
        assert book.in_flight[INFERENCE] == len(self.held)
        for sink, owed in self.owed.items():
            assert book.in_flight[sink] == len(owed)

    @invariant()
    def outlets_close_with_the_last_frame(self) -> None:
        drained = self.closed and not self.inbox and not self.held
        assert all(outlet.closed == drained for outlet in self.lane.outlets.values())

    @invariant()
    def a_blocking_lane_loses_nothing_by_itself(self) -> None:
        dropped = self.lane.ledger.read().dropped
        if self.backpressure is BLOCK:
            assert not any(n for (_, reason), n in dropped.items() if reason is Reason.OVERFLOW)


class BlockingLaneMachine(LaneMachine):
    backpressure = BLOCK


for machine in (LaneMachine, BlockingLaneMachine):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDroppingLane = LaneMachine.TestCase
TestBlockingLane = BlockingLaneMachine.TestCase


class Inference:
    """Takes up frames of some lanes, drops a few, and may die with frames in its hands."""

    def __init__(self, lanes: list[Lane], ready: threading.Condition, dies_after: float) -> None:
        self._lanes, self._ready, self._left = lanes, ready, dies_after

    def run(self) -> None:
        while not all(lane.closed and not lane.waiting for lane in self._lanes):
            with self._ready:
                self._ready.wait_for(self._something_to_do, PATIENCE)
                taken = [(lane, lane.take()) for lane in self._lanes]
            self._left -= 1
            if self._left < 0:
                raise EngineError("died")
            for lane, got in taken:
                if got and random.random() < 0.1:
                    lane.drop(INFERENCE, Reason.TOO_OLD)
                elif got:
                    lane.deliver(got, detections())

    def _something_to_do(self) -> bool:
        return any(lane.waiting for lane in self._lanes) or all(lane.closed for lane in self._lanes)


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
    ready = threading.Condition()
    lanes = [a_lane(backpressure, depth=3, ready=ready) for _ in range(2)]

    def bury(_: Worker) -> None:
        for lane in lanes:
            lane.abandon()

    jobs = [partial(capture, lane, 300) for lane in lanes]
    jobs += [partial(serve, lane, sink) for lane in lanes for sink in SINKS]
    inference = Worker("inference", Inference(lanes, ready, dies_after or math.inf).run, bury)
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

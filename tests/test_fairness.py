"""No stream lives at the cost of another, and no frame is looked at past its time."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centernetd.flow import CAPTURE, INFERENCE, Arrivals, Backpressure, Image, Lane, Reason, Worker
from centernetd.inference.collect import Batching, Forecast, Taken, collect
from centernetd.inference.delivery import Delivery
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Slot
from centernetd.inference.filter import StreamFilter, make_filter
from centernetd.inference.postprocess import View
from centernetd.inference.stage import InferenceStage
from centernetd.sink.registry import EVENTS
from tests.fakes import (
    MODEL,
    FakeClock,
    FakeEngine,
    FakeSlot,
    RecordingMeters,
    frame,
    only,
    wait_until,
)
from tests.test_inference_stage import MANIFEST

NUMBERS = tuple(map(str, range(20)))
TOO_OLD = (INFERENCE, Reason.TOO_OLD)
OVERFLOW = (CAPTURE, Reason.OVERFLOW)


def make_lane(name: str, arrivals: Arrivals, inbox: int = 10_000) -> Lane:
    return Lane(
        name,
        Backpressure.DROP_OLDEST,
        depth=inbox,
        inbox=inbox,
        arrivals={MODEL: arrivals},
        sinks=[EVENTS],
        max_frame_age=1.0,
    )


def take(lanes: Sequence[Lane], arrivals: Arrivals, max_size: int) -> list[Taken]:
    clock = FakeClock()
    clock.time = 0.0  # when the frames were captured
    return collect(
        [lane.inboxes[MODEL] for lane in lanes],
        arrivals,
        Batching(max_size, 0.0),
        Forecast(),
        clock,
    )


@given(
    backlogs=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    later=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=30),
    max_size=st.integers(1, 9),
)
def test_nobody_is_served_twice_between_two_turns_of_one_that_waits(
    backlogs: list[int], later: list[tuple[int, int]], max_size: int
) -> None:
    arrivals = Arrivals()
    lanes = [make_lane(str(number), arrivals) for number in range(len(backlogs))]
    for lane, backlog in zip(lanes, backlogs, strict=True):
        for number in range(backlog):
            lane.offer(frame(number))
    coming = list(later)
    others = {lane: Counter[Lane]() for lane in lanes}  # turns of others while this one waits
    while any(lane.waiting for lane in lanes):
        waiting = {lane: lane.waiting for lane in lanes}
        batch = take(lanes, arrivals, max_size)
        for served in (taken.lane for taken in batch):
            waiting[served] -= 1
            for lane, seen in others.items():
                seen[served] += 1
                if lane is served or not waiting[lane]:
                    seen.clear()
                assert all(turns <= 1 for turns in seen.values())
        if coming:
            where, count = coming.pop()
            for number in range(count):
                lanes[where % len(lanes)].offer(frame(number))


@pytest.mark.parametrize("max_size", [1, 2, 3, 4, 5, 7, 8, 16])
def test_under_overload_all_get_the_same_share(max_size: int) -> None:
    arrivals = Arrivals()
    lanes = [make_lane(str(number), arrivals) for number in range(5)]
    turns = Counter[Lane]()
    for _ in range(100):
        for lane in lanes:
            while lane.waiting < max_size:
                lane.offer(frame())
        batch = take(lanes, arrivals, max_size)
        assert len(batch) == max_size
        turns.update(taken.lane for taken in batch)
        assert max(turns.values()) - min(turns[lane] for lane in lanes) <= 1


@settings(max_examples=30, deadline=None)
@given(
    floods=st.integers(1, 4),
    cameras=st.lists(st.integers(200, 1000), min_size=1, max_size=4),
    batch_ms=st.integers(5, 30),
    max_size=st.sampled_from([1, 2, 4, 8]),
)
def test_a_flood_costs_no_other_stream_a_frame(
    floods: int, cameras: list[int], batch_ms: int, max_size: int
) -> None:
    """For three seconds of virtual time; ``cameras`` are the milliseconds per frame of each.

    Even at one frame a batch of 30 ms all eight streams have had a turn after 240 ms, and the
    inbox of a live stream holds two frames.
    """
    arrivals = Arrivals()
    flooding = [make_lane(f"flood{n}", arrivals, inbox=2) for n in range(floods)]
    steady = {make_lane(f"cam{n}", arrivals, inbox=2): period for n, period in enumerate(cameras)}
    lanes = [*flooding, *steady]
    for now in range(0, 3000, batch_ms):
        for lane in flooding:
            for _ in range(3):
                lane.offer(frame(now))
        for lane, period in steady.items():
            if now % period < batch_ms:
                lane.offer(frame(now))
        take(lanes, arrivals, max_size)
    for lane in steady:
        assert lane.ledger.read().dropped[OVERFLOW] == 0
    for lane in flooding:
        assert lane.ledger.read().dropped[OVERFLOW] > 0


class TimedEngine(FakeEngine):
    """Notes the virtual time at which each frame is enqueued; its first pixel is its number."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.enqueued: dict[int, float] = {}

    def enqueue(self, slot: FakeSlot, size: int) -> None:
        for row in slot.rows[:size]:
            self.enqueued[int(row[0, 0, 0])] = self.clock.now()
        super().enqueue(slot, size)


class SlowDetector(Detector):
    """Letterboxing takes as long as it is set to, by the virtual clock."""

    def __init__(self, engine: TimedEngine, pool: ThreadPoolExecutor, takes: list[float]) -> None:
        super().__init__(engine, replace(MANIFEST, labels=NUMBERS), pool)
        self._clock, self._takes = engine.clock, takes

    def fill(
        self, slot: Slot, images: Sequence[Image], filters: Sequence[StreamFilter]
    ) -> list[View]:
        views = super().fill(slot, images, filters)
        self._clock.time += self._takes.pop() if self._takes else 0.0
        return views


@settings(max_examples=50, deadline=None)
@given(
    ages=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1.2)), min_size=1, max_size=20),
    takes=st.lists(st.floats(0, 0.7), max_size=20),
)
def test_no_live_frame_is_enqueued_past_its_time(
    ages: list[tuple[int, float]], takes: list[float]
) -> None:
    """Whether it grew old while it waited or while its batch was filled, and it takes no other."""
    clock, arrivals = FakeClock(), Arrivals()
    lanes = [make_lane(name, arrivals) for name in "ab"]
    captured = [clock.now() - age for _, age in ages]
    for number, (where, _) in enumerate(ages):
        lanes[where].offer(frame(number, captured_at=captured[number], value=number))
    for lane in lanes:
        lane.close()
    engine = TimedEngine(clock)
    run(engine, lanes, arrivals, takes)
    for number, at in engine.enqueued.items():
        assert at - captured[number] <= 1.0
    found = {result.frame.frame_id: result for lane in lanes for result in lane.outlets[EVENTS]}
    assert set(found) == set(engine.enqueued)
    for number, result in found.items():
        assert result.detections.class_id.tolist() == [number], "another frame's detections"
    for lane in lanes:
        book = lane.ledger.read()
        assert book.captured == book.inferred + book.dropped[TOO_OLD]


def run(engine: TimedEngine, lanes: list[Lane], arrivals: Arrivals, takes: list[float]) -> None:
    """Work off what waits in lanes that are closed."""
    with ThreadPoolExecutor(1) as pool:
        stage = InferenceStage(
            SlowDetector(engine, pool, takes),
            {lane.inboxes[MODEL]: only(make_filter(NUMBERS, 0.4, NUMBERS)) for lane in lanes},
            arrivals,
            Batching(4, 0.0),
            Delivery(RecordingMeters()),
            RecordingMeters(),
            lambda _: None,
            slots=2,
        )
        stage._clock = engine.clock
        workers = [
            Worker(name, getattr(stage, name), lambda _: None) for name in ("feed", "harvest")
        ]
        for worker in workers:
            worker.start()
        wait_until(lambda: not any(worker.alive for worker in workers))
    assert [worker.error for worker in workers] == [None, None]
    assert stage.slots_busy == 0

"""The inference stage around a strict fake engine."""

import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from centernetd.errors import EngineError, StartupError
from centernetd.flow import INFERENCE, Arrivals, Backpressure, Filter, Lane, Reason, Worker
from centernetd.inference.collect import Batching, Taken
from centernetd.inference.delivery import Delivery
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Slot, Tensors
from centernetd.inference.filter import StreamFilter, make_filter
from centernetd.inference.postprocess import View
from centernetd.inference.stage import InferenceStage
from centernetd.sink.registry import EVENTS
from tests.fakes import (
    MODEL,
    WAIT_TIMEOUT,
    FakeClock,
    FakeEngine,
    FakeSlot,
    RecordingMeters,
    frame,
    only,
    wait_until,
)
from tests.manifests import plain

LABELS = ("cat", "dog", "cow")
MANIFEST = plain(labels=LABELS, confidence=0.4)


@dataclass
class Rig:
    """An inference stage, its lanes and its two threads."""

    engine: FakeEngine
    names: tuple[str, ...] = ("a",)
    filters: dict[str, StreamFilter] = field(default_factory=dict)
    backpressure: Backpressure = Backpressure.DROP_OLDEST
    max_frame_age: float | None = None
    slots: int = 2
    max_size: int = 4

    def __post_init__(self) -> None:
        self.beats: list[float] = []
        self.meters = RecordingMeters()
        arrivals = Arrivals()
        self.lanes = {
            name: Lane(
                name,
                self.backpressure,
                depth=200,
                inbox=200,
                arrivals={MODEL: arrivals},
                sinks=[EVENTS],
                max_frame_age=self.max_frame_age,
            )
            for name in self.names
        }
        self.pool = ThreadPoolExecutor(2)
        self.stage = InferenceStage(
            Detector(self.engine, MANIFEST, self.pool),
            {
                lane.inboxes[MODEL]: only(self.filters.get(name, make_filter(LABELS, 0.4)))
                for name, lane in self.lanes.items()
            },
            arrivals,
            Batching(self.max_size, max_delay=0.0),
            Delivery(self.meters),
            self.meters,
            self._beat,
            slots=self.slots,
        )
        self.workers = [
            Worker("feed", self.stage.feed, lambda _: None),
            Worker("harvest", self.stage.harvest, lambda _: None),
        ]

    def _beat(self, took: float) -> None:
        assert took >= 0
        self.beats.append(took)

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def close(self) -> None:
        for lane in self.lanes.values():
            lane.close()

    def join(self) -> list[BaseException | None]:
        wait_until(lambda: not any(worker.alive for worker in self.workers))
        return [worker.error for worker in self.workers]

    def delivered(self, name: str) -> list[tuple[int, list[int]]]:
        """Read what reached the sink: each frame's id and the classes found in it."""
        lane, found = self.lanes[name], []
        for result in lane.outlets[EVENTS]:
            lane.ledger.write(EVENTS)
            found.append((result.frame.frame_id, result.detections.class_id.tolist()))
        return found

    def assert_all_accounted_for(self) -> None:
        for lane in self.lanes.values():
            book = lane.ledger.read()
            assert book.balanced
            assert not any(book.in_flight.values())


@pytest.fixture
def houses() -> Iterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.engine.gate.set()
        rig.close()
        rig.pool.shutdown()


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_frame_comes_out_once_in_order_with_its_own_detections(
    slots: int, houses: list[Rig]
) -> None:
    rig = Rig(FakeEngine(), ("a", "b", "c"), slots=slots)
    houses.append(rig)
    rig.start()
    for n in range(60):
        for shift, lane in enumerate(rig.lanes.values()):
            lane.offer(frame(n, value=(n + shift) % 3))
    rig.close()
    assert rig.join() == [None, None]
    for shift, name in enumerate(rig.names):
        assert rig.delivered(name) == [(n, [(n + shift) % 3]) for n in range(60)]
    rig.assert_all_accounted_for()
    assert sum(rig.engine.sizes) == 180
    assert rig.stage.slots_busy == 0


def test_the_next_batches_are_enqueued_while_the_first_is_computed(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), slots=3)
    houses.append(rig)
    rig.engine.gate.clear()
    for n in range(20):
        rig.lanes["a"].offer(frame(n))
    rig.start()
    wait_until(lambda: rig.engine.sizes == [4, 4, 4])
    assert rig.stage.slots_busy == 3
    assert rig.lanes["a"].waiting == 8, "a batch was taken up for which there is no slot"
    rig.engine.gate.set()
    rig.close()
    assert rig.join() == [None, None]
    assert [n for n, _ in rig.delivered("a")] == list(range(20))


def test_what_it_does_is_reported(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine())
    houses.append(rig)
    for n in range(6):
        rig.lanes["a"].offer(frame(n))
    rig.close()
    rig.start()
    assert rig.join() == [None, None]
    assert rig.meters.batches == [4, 2]
    assert rig.meters.latencies == ["a"] * 6
    assert sorted(rig.meters.stages) == ["execute", "execute", "preprocess", "preprocess"]
    assert len(rig.beats) == 4


def test_detections_are_filtered_and_counted_as_each_stream_asks(houses: list[Rig]) -> None:
    filters = {"a": make_filter(LABELS, 0.4, ["dog"]), "b": StreamFilter(0.95, None, LABELS)}
    rig = Rig(FakeEngine(), ("a", "b", "c"), filters)
    houses.append(rig)
    for lane in rig.lanes.values():
        for n in range(3):
            lane.offer(frame(n, value=n))
        lane.offer(frame(3, value=200))  # no class of the model's
    rig.close()
    rig.start()
    assert rig.join() == [None, None]
    assert rig.delivered("a") == [(0, []), (1, [1]), (2, []), (3, [])]
    assert rig.delivered("b") == [(0, []), (1, []), (2, []), (3, [])]
    assert rig.delivered("c") == [(0, [0]), (1, [1]), (2, [2]), (3, [])]
    counted = {name: dict(lane.status.detections) for name, lane in rig.lanes.items()}
    assert counted == {
        "a": {(MODEL, "dog"): 1},
        "b": {},
        "c": {(MODEL, "cat"): 1, (MODEL, "dog"): 1, (MODEL, "cow"): 1},
    }


def test_what_only_blur_asks_for_is_delivered_and_not_counted(houses: list[Rig]) -> None:
    blurred = Filter(0.4, frozenset({1}))
    rig = Rig(FakeEngine(), filters={"a": StreamFilter(0.95, frozenset({2}), LABELS, blurred)})
    houses.append(rig)
    for n in range(3):
        rig.lanes["a"].offer(frame(n, value=n))
    rig.close()
    rig.start()
    assert rig.join() == [None, None]
    assert rig.delivered("a") == [(0, []), (1, [1]), (2, [2])]
    assert sum(rig.lanes["a"].status.detections.values()) == 0


def test_frames_past_their_age_are_dropped(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), max_frame_age=3600.0)
    houses.append(rig)
    now = rig.stage._clock.now()
    rig.lanes["a"].offer(frame(0, captured_at=now - 3601))
    rig.lanes["a"].offer(frame(1, captured_at=now))
    rig.close()
    rig.start()
    assert rig.join() == [None, None]
    assert [n for n, _ in rig.delivered("a")] == [1]
    assert rig.lanes["a"].ledger.read().dropped_at(INFERENCE) == 1
    rig.assert_all_accounted_for()


def test_a_lane_that_blocks_drops_nothing_however_old(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), backpressure=Backpressure.BLOCK, max_frame_age=0.001)
    houses.append(rig)
    for n in range(5):
        rig.lanes["a"].offer(frame(n, captured_at=-1e6))
    rig.close()
    rig.start()
    assert rig.join() == [None, None]
    assert [n for n, _ in rig.delivered("a")] == list(range(5))


@pytest.mark.parametrize("fail_early", [False, True], ids=["harvest", "feed"])
def test_an_engine_that_fails_ends_both_threads(fail_early: bool, houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(fail_at=3, fail_early=fail_early))
    houses.append(rig)
    for n in range(100):
        rig.lanes["a"].offer(frame(n))
    rig.start()
    wait_until(lambda: any(not worker.alive for worker in rig.workers))
    rig.lanes["a"].close()
    feed, harvest = rig.join()
    assert isinstance(feed if fail_early else harvest, EngineError)
    assert (harvest if fail_early else feed) is None
    rig.lanes["a"].abandon()
    assert [n for n, _ in rig.delivered("a")] == list(range(12))
    rig.assert_all_accounted_for()


def test_a_failed_harvest_ends_a_feed_that_waits_for_a_slot(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(fail_at=0), slots=1)
    houses.append(rig)
    rig.engine.gate.clear()
    for n in range(20):
        rig.lanes["a"].offer(frame(n))
    rig.start()
    wait_until(lambda: rig.engine.sizes == [4])
    rig.engine.gate.set()
    feed, harvest = rig.join()
    assert feed is None
    assert isinstance(harvest, EngineError)


def test_the_lane_that_waits_longest_is_served_first(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), ("a", "idle", "b", "c"), max_size=1)
    houses.append(rig)
    for name in "abc":
        for n in range(5):
            rig.lanes[name].offer(frame(n))
    rig.close()
    rig.start()
    assert rig.join() == [None, None]
    assert rig.meters.latencies == [*"abc"] * 5


def test_warming_up_runs_each_bucket_in_each_slot(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), slots=2)
    houses.append(rig)
    rig.stage.warm_up()
    assert rig.engine.sizes == [4, 4, 2, 2, 1, 1], "first the one that needs the most memory"
    assert rig.engine.waited == 6


def test_a_warm_up_that_fails_ends_the_harvest(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(fail_at=1))
    houses.append(rig)
    _, harvest = rig.workers
    harvest.start()
    with pytest.raises(EngineError):
        rig.stage.warm_up()
    assert harvest.join(time.monotonic() + WAIT_TIMEOUT)
    assert harvest.error is None


def test_the_end_of_all_lanes_is_the_end(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), ("a", "b"))
    houses.append(rig)
    rig.start()
    assert rig.stage.slots_busy == 0, "a slot kept ready for a batch isn't busy"
    rig.close()
    assert rig.join() == [None, None]
    assert rig.engine.sizes == []


class Timed(FakeEngine):
    """Takes 3 s of a clock for each batch."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, slot: FakeSlot) -> Tensors:
        self._clock.time += 3
        return super().wait(slot)


def timed(**options: Any) -> tuple[Rig, FakeClock]:
    """Return a rig that is to be fed and harvested by hand, and the clock it lives by."""
    clock = FakeClock()
    rig = Rig(Timed(clock), **options)
    rig.stage._clock = clock
    return rig, clock


def test_a_warm_up_reports_how_long_each_batch_took(houses: list[Rig]) -> None:
    rig, _ = timed()
    houses.append(rig)
    rig.stage.warm_up()
    assert rig.beats == [3.0] * 6


def test_a_warm_up_ends_early_when_every_lane_is_closed(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), ("a", "b"))
    houses.append(rig)
    rig.lanes["a"].close()
    rig.stage.warm_up()
    assert len(rig.engine.sizes) == 6, "one is open"
    rig.close()
    rig.stage.warm_up()
    assert len(rig.engine.sizes) == 6


class Seconds(RecordingMeters):
    """Keeps the seconds that are reported too."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[tuple[str, float]] = []

    def stage_duration(self, stage: str, seconds: float) -> None:
        super().stage_duration(stage, seconds)
        self.seconds.append((stage, seconds))

    def frame_latency(self, stream: str, seconds: float) -> None:
        self.seconds.append((stream, seconds))


def test_durations_and_latencies_are_reported_in_seconds(houses: list[Rig]) -> None:
    rig, clock = timed()
    houses.append(rig)
    rig.stage._meters = rig.stage._delivery._meters = meters = Seconds()
    for n in range(2):
        rig.lanes["a"].offer(frame(n, captured_at=clock.now() - 5 - n))
    fill = rig.stage._detector.fill

    def fill_slowly(*of: Any) -> Sequence[View]:
        clock.time += 2
        return fill(*of)

    rig.stage._detector.fill = fill_slowly  # type: ignore[method-assign,assignment]
    rig.close()
    rig.stage.feed()
    rig.stage.harvest()
    assert meters.seconds == [("preprocess", 2), ("execute", 0.001), ("a", 10), ("a", 11)]
    assert rig.beats == [0.0, 5.0], "taken up, and from collecting to delivering"
    assert rig.stage._forecast.predict(2) == 5


def test_a_frame_may_be_as_old_as_is_allowed_and_no_older(houses: list[Rig]) -> None:
    rig, clock = timed(max_frame_age=8.0)
    houses.append(rig)
    for n, age in enumerate((8.5, 8.0, 7.0)):
        rig.lanes["a"].offer(frame(n, captured_at=clock.now() - age))
    rig.close()
    rig.stage.feed()
    rig.stage.harvest()
    assert [n for n, _ in rig.delivered("a")] == [1, 2]


def test_frames_that_age_while_their_batch_is_filled_are_left_out_of_it(
    houses: list[Rig],
) -> None:
    rig, clock = timed(max_frame_age=8.0)
    houses.append(rig)
    fill = rig.stage._detector.fill

    def fill_slowly(*of: Any) -> Sequence[View]:
        views = fill(*of)
        clock.time += 6
        return views

    rig.stage._detector.fill = fill_slowly  # type: ignore[method-assign,assignment]
    for n, age in enumerate((1, 3, 2, 3)):
        rig.lanes["a"].offer(frame(n, value=n % 3, captured_at=clock.now() - age))
    rig.close()
    rig.stage.feed()
    rig.stage.harvest()
    assert rig.delivered("a") == [(0, [0]), (2, [2])], "each with its own row"
    assert rig.engine.sizes == [2]
    rig.assert_all_accounted_for()
    assert rig.lanes["a"].ledger.read().dropped[INFERENCE, Reason.TOO_OLD] == 2


def test_a_batch_of_which_all_aged_is_not_run_and_leaves_its_slot_free(
    houses: list[Rig],
) -> None:
    rig, clock = timed(max_frame_age=8.0, slots=1)
    houses.append(rig)
    fill = rig.stage._detector.fill

    def fill_slowly(*of: Any) -> Sequence[View]:
        clock.time += 6
        return fill(*of)

    rig.stage._detector.fill = fill_slowly  # type: ignore[method-assign,assignment]
    rig.lanes["a"].offer(frame(0, captured_at=clock.now() - 3))
    rig.close()
    rig.stage.feed()
    assert rig.engine.sizes == []
    assert rig.stage.slots_busy == 0
    (slot,) = rig.stage._slots
    assert isinstance(slot, FakeSlot)
    assert not slot.put_rows, "it holds pictures that nobody needs"
    assert rig.beats == [0.0]
    rig.assert_all_accounted_for()


def test_a_lane_that_comes_later_is_served_until_inference_has_ended(houses: list[Rig]) -> None:
    rig, late = Rig(FakeEngine()), Rig(FakeEngine(), ("late",))
    houses += [rig, late]
    rig.start()
    lane, filters = late.lanes["late"], only(make_filter(LABELS, 0.4))
    inbox = lane.inboxes[MODEL]
    inbox.arrivals = rig.stage._arrivals
    rig.stage.serve({inbox: filters})
    lane.offer(frame(0, value=1))
    wait_until(lambda: len(lane.outlets[EVENTS]) == 1)
    late.close()
    assert late.delivered("late") == [(0, [1])]
    rig.stage.forget(inbox)
    assert rig.stage._inboxes == [lane.inboxes[MODEL] for lane in rig.lanes.values()]
    rig.close()
    assert rig.join() == [None, None]
    rig.stage.serve({})
    with pytest.raises(StartupError, match="every stream has ended"):
        rig.stage.serve({inbox: filters})


def test_idle_inference_holds_no_picture(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine())
    houses.append(rig)
    rig.start()
    lane = rig.lanes["a"]
    offered = frame(0)
    picture = weakref.ref(offered.image)
    lane.offer(offered)
    del offered
    wait_until(lambda: lane.outlets[EVENTS].take() is not None)
    wait_until(lambda: picture() is None)


def test_idle_inference_holds_no_picture_that_was_too_old(houses: list[Rig]) -> None:
    rig = Rig(FakeEngine(), max_frame_age=1000.0)
    houses.append(rig)
    drop_late = rig.stage._drop_late

    def drop_all(slot: Slot, frames: Sequence[Taken]) -> Sequence[int]:
        return drop_late(slot, [taken._replace(deadline=0.0) for taken in frames])

    rig.stage._drop_late = drop_all  # type: ignore[method-assign]
    rig.start()
    lane = rig.lanes["a"]
    offered = frame(0, captured_at=time.monotonic())
    picture = weakref.ref(offered.image)
    lane.offer(offered)
    del offered
    wait_until(lambda: picture() is None)
    assert lane.ledger.read().dropped[INFERENCE, Reason.TOO_OLD] == 1

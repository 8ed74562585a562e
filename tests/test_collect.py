"""Collecting a batch: under a fake clock, in one thread, without sleeping."""

import threading
from collections.abc import Callable

import pytest

from centernetd.flow import Backpressure, Frame, Lane, Reason, StageName
from centernetd.inference.collect import SystemClock, Taken, collect, in_turn
from tests.fakes import FakeClock, frame

Limit = Callable[[Lane, Frame], int]


class House:
    """Some lanes, one condition, one clock."""

    def __init__(self, *names: str) -> None:
        self.ready = threading.Condition()
        self.lanes = {name: self._lane(name) for name in names}

    def _lane(self, name: str) -> Lane:
        return Lane(name, Backpressure.DROP_OLDEST, depth=99, inbox=99, ready=self.ready, sinks=[])

    def offer(self, name: str, *frame_ids: int) -> None:
        for frame_id in frame_ids:
            self.lanes[name].offer(frame(frame_id))

    def close(self) -> None:
        for lane in self.lanes.values():
            lane.close()

    def collect(
        self,
        clock: FakeClock | None = None,
        *,
        max_size: int = 4,
        max_delay: float = 0.0,
        limit: Limit = lambda _lane, _frame: 99,
    ) -> list[str]:
        """Collect a batch, as lane and frame id of each frame: ["a0", "b0"]."""
        batch = collect(
            list(self.lanes.values()),
            self.ready,
            max_size,
            max_delay,
            limit,
            clock or FakeClock(),
        )
        for taken in batch:
            assert taken.lane.ledger.read().balanced
        return [f"{taken.lane.name}{taken.frame.frame_id}" for taken in batch]


def test_a_full_batch_goes_at_once() -> None:
    house, clock = House("a"), FakeClock()
    house.offer("a", 0, 1, 2, 3, 4)
    assert house.collect(clock, max_size=4, max_delay=9.0) == ["a0", "a1", "a2", "a3"]
    assert clock.waits == []
    assert house.lanes["a"].waiting == 1


def test_without_delay_what_waits_goes_at_once() -> None:
    house, clock = House("a", "b"), FakeClock()
    house.offer("b", 0)
    assert house.collect(clock) == ["b0"]
    assert clock.waits == []


def test_it_waits_for_ever_for_a_first_frame_and_then_max_delay_for_company() -> None:
    house = House("a", "b")
    clock = FakeClock((1000.0, lambda: house.offer("a", 0)))
    assert house.collect(clock, max_delay=0.5) == ["a0"]
    assert clock.waits == [None, 0.5]
    assert clock.now() == 1100.5


def test_company_that_comes_during_the_wait_joins_and_does_not_lengthen_it() -> None:
    house = House("a", "b")
    house.offer("a", 0)
    clock = FakeClock((0.2, lambda: house.offer("b", 0)), (0.4, lambda: house.offer("b", 1)))
    assert house.collect(clock, max_delay=0.5) == ["a0", "b0", "b1"]
    assert clock.waits == pytest.approx([0.5, 0.3, 0.1])
    assert clock.now() == pytest.approx(100.5)


def test_company_that_fills_the_batch_ends_the_wait() -> None:
    house = House("a", "b")
    house.offer("a", 0)
    clock = FakeClock((0.2, lambda: house.offer("b", 0, 1)))
    assert house.collect(clock, max_size=2, max_delay=0.5) == ["a0", "b0"]
    assert clock.now() == pytest.approx(100.2)
    assert house.lanes["b"].waiting == 1


def test_a_wakening_for_nothing_goes_on_waiting() -> None:
    house = House("a")
    house.offer("a", 0)
    clock = FakeClock((0.1, lambda: None), (0.2, lambda: None))
    assert house.collect(clock, max_delay=0.5) == ["a0"]
    assert clock.now() == pytest.approx(100.5)


def test_closing_ends_the_wait_for_company() -> None:
    house = House("a", "b")
    house.offer("a", 0)
    clock = FakeClock((0.1, house.close))
    assert house.collect(clock, max_delay=60.0) == ["a0"]
    assert clock.now() == pytest.approx(100.1)


def test_closing_ends_the_wait_for_a_first_frame() -> None:
    house = House("a", "b")
    assert house.collect(FakeClock((5.0, house.close)), max_delay=60.0) == []


def test_closed_lanes_are_drained_before_the_end() -> None:
    house = House("a", "b")
    house.offer("a", 0, 1, 2)
    house.offer("b", 0)
    house.close()
    assert house.collect(max_size=3, max_delay=60.0) == ["a0", "b0", "a1"]
    assert house.collect(max_size=3, max_delay=60.0) == ["a2"]
    assert house.collect(max_size=3, max_delay=60.0) == []


def test_one_closed_lane_does_not_end_the_others() -> None:
    house = House("a", "b")
    house.lanes["a"].close()
    clock = FakeClock((3.0, lambda: house.offer("b", 0)))
    assert house.collect(clock) == ["b0"]


def test_no_lanes_is_the_end() -> None:
    assert House().collect() == []


def test_a_flooding_lane_takes_no_more_turns_than_a_slow_one() -> None:
    house = House("flood", "slow", "idle")
    house.offer("flood", *range(50))
    house.offer("slow", 0, 1)
    assert house.collect(max_size=4) == ["flood0", "slow0", "flood1", "slow1"]


def test_frames_that_are_too_old_are_dropped_and_counted() -> None:
    house = House("a", "b")
    house.offer("a", 0, 1, 2)
    house.offer("b", 7)
    limit: Limit = lambda lane, frame: 0 if lane.name == "a" and frame.frame_id < 2 else 99  # noqa: E731
    assert house.collect(limit=limit) == ["a2", "b7"], "a lost its turn by its old frames"
    book = house.lanes["a"].ledger.read()
    assert book.dropped[StageName.INFERENCE, Reason.TOO_OLD] == 2
    assert house.lanes["b"].ledger.read().dropped_at(StageName.INFERENCE) == 0


def test_nothing_but_old_frames_is_no_batch() -> None:
    house = House("a")
    house.offer("a", 0, 1)
    clock = FakeClock((1.0, house.close))
    assert house.collect(clock, limit=lambda _lane, _frame: 0) == []
    assert clock.waits == [None]
    assert house.lanes["a"].ledger.read().balanced


def test_a_frame_that_would_be_late_in_a_larger_batch_leads_the_next() -> None:
    house = House("a", "b")
    house.offer("a", 0, 1)
    house.offer("b", 0, 1)
    limit: Limit = lambda lane, _frame: 1 if lane.name == "b" else 99  # noqa: E731
    assert house.collect(limit=limit) == ["a0"]
    house.lanes = dict(reversed(house.lanes.items()))
    assert house.collect(limit=limit) == ["b0"]


def test_a_frame_in_a_hurry_is_not_made_late_by_those_that_follow_it() -> None:
    house, clock = House("a", "b"), FakeClock()
    house.offer("a", 0, 1)
    house.offer("b", 0, 1)
    limit: Limit = lambda lane, _frame: 2 if lane.name == "a" else 99  # noqa: E731
    assert house.collect(clock, max_delay=9.0, limit=limit) == ["a0", "b0"]
    assert clock.waits == []


@pytest.mark.parametrize("left", [0, 1])
def test_company_does_not_join_when_the_wait_has_used_up_the_time(left: int) -> None:
    house = House("a", "b")
    house.offer("a", 0)
    clock = FakeClock((0.2, lambda: house.offer("b", 0)))

    def limit(lane: Lane, _frame: Frame) -> int:
        return left if lane.name == "a" and clock.now() > 100.1 else 99

    assert house.collect(clock, max_delay=0.5, limit=limit) == ["a0"]
    assert clock.now() == pytest.approx(100.2)


def test_the_system_clock_waits_on_the_condition() -> None:
    ready, clock = threading.Condition(), SystemClock()
    lane = Lane("a", Backpressure.BLOCK, depth=2, inbox=2, ready=ready, sinks=[])
    offered = frame(3)
    before = clock.now()
    with ready:
        writer = threading.Thread(target=lambda: lane.offer(offered), daemon=True)
        writer.start()  # it comes in as soon as collect waits
        batch = collect([lane], ready, 1, 0.0, lambda _lane, _frame: 1, clock)
    assert batch == [Taken(lane, offered)]
    assert clock.now() >= before
    writer.join()


def test_whoever_waits_longest_leads_the_next_batch() -> None:
    house = House("a", "b", "c", "d")
    a, b, c, d = lanes = list(house.lanes.values())
    assert in_turn(lanes, []) == lanes
    assert in_turn(lanes, [Taken(a, frame())]) == [b, c, d, a]
    batch = [Taken(lane, frame()) for lane in (c, a, c)]
    assert in_turn(lanes, batch) == [b, d, a, c]

"""Collecting a batch: under a fake clock, in one thread, without sleeping."""

import threading
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.flow import CAPTURE, INFERENCE, Arrivals, Backpressure, Inbox, Lane, Reason
from centernetd.inference.collect import (
    Batching,
    Forecast,
    SystemClock,
    collect,
)
from tests.fakes import MODEL, FakeClock, frame

MAX_AGE = 10.0  # seconds, of lanes that have a deadline


class Rig:
    """Some lanes, one condition, one forecast; lanes in ``live`` have deadlines."""

    def __init__(self, *names: str, live: str = "", **seconds: float) -> None:
        """Name the lanes; ``of_N=seconds`` is known of batches of N."""
        self.arrivals = Arrivals()
        self.lanes = {name: self._lane(name, live=name in live) for name in names}
        self.forecast = a_forecast(**seconds)

    def _lane(self, name: str, *, live: bool) -> Lane:
        return Lane(
            name,
            Backpressure.DROP_OLDEST,
            depth=99,
            inbox=99,
            arrivals={MODEL: self.arrivals},
            sinks=[],
            max_frame_age=MAX_AGE if live else None,
        )

    def offer(self, name: str, *frame_ids: int, left: float = MAX_AGE) -> None:
        """Offer frames that are of use for ``left`` seconds from the start of a `FakeClock`."""
        captured_at = FakeClock().now() + left - MAX_AGE
        for frame_id in frame_ids:
            self.lanes[name].offer(frame(frame_id, captured_at))

    def close(self) -> None:
        for lane in self.lanes.values():
            lane.close()

    def collect(
        self,
        clock: FakeClock | None = None,
        *,
        max_size: int = 4,
        max_delay: float = 0.0,
    ) -> list[str]:
        """Collect a batch, as lane and frame id of each frame: ["a0", "b0"]."""
        batch = collect(
            [lane.inboxes[MODEL] for lane in self.lanes.values()],
            self.arrivals,
            Batching(max_size, max_delay),
            self.forecast,
            clock or FakeClock(),
        )
        for taken in batch:
            assert taken.lane.ledger.read().balanced
        return [f"{taken.lane.name}{taken.frame.frame_id}" for taken in batch]


def a_forecast(**seconds: float) -> Forecast:
    """Learn ``of_N=seconds`` of each size."""
    forecast = Forecast()
    for name, took in seconds.items():
        for _ in range(50):
            forecast.learn(int(name.removeprefix("of_")), took)
    return forecast


def test_a_full_batch_goes_at_once() -> None:
    rig, clock = Rig("a"), FakeClock()
    rig.offer("a", 0, 1, 2, 3, 4)
    assert rig.collect(clock, max_size=4, max_delay=9.0) == ["a0", "a1", "a2", "a3"]
    assert clock.waits == []
    assert rig.lanes["a"].waiting == 1


def test_without_delay_what_waits_goes_at_once() -> None:
    rig, clock = Rig("a", "b"), FakeClock()
    rig.offer("b", 0)
    assert rig.collect(clock) == ["b0"]
    assert clock.waits == []


def test_it_waits_for_ever_for_a_first_frame_and_then_max_delay_for_company() -> None:
    rig = Rig("a", "b")
    clock = FakeClock((1000.0, lambda: rig.offer("a", 0)))
    assert rig.collect(clock, max_delay=0.5) == ["a0"]
    assert clock.waits == [None, 0.5]
    assert clock.now() == 1100.5


def test_company_that_comes_during_the_wait_joins_and_does_not_lengthen_it() -> None:
    rig = Rig("a", "b")
    rig.offer("a", 0)
    clock = FakeClock((0.2, lambda: rig.offer("b", 0)), (0.4, lambda: rig.offer("b", 1)))
    assert rig.collect(clock, max_delay=0.5) == ["a0", "b0", "b1"]
    assert clock.waits == pytest.approx([0.5, 0.3, 0.1])
    assert clock.now() == pytest.approx(100.5)


def test_company_that_fills_the_batch_ends_the_wait() -> None:
    rig = Rig("a", "b")
    rig.offer("a", 0)
    clock = FakeClock((0.2, lambda: rig.offer("b", 0, 1)))
    assert rig.collect(clock, max_size=2, max_delay=0.5) == ["a0", "b0"]
    assert clock.now() == pytest.approx(100.2)
    assert rig.lanes["b"].waiting == 1


def test_a_wakening_for_nothing_goes_on_waiting() -> None:
    rig = Rig("a")
    rig.offer("a", 0)
    clock = FakeClock((0.1, lambda: None), (0.2, lambda: None))
    assert rig.collect(clock, max_delay=0.5) == ["a0"]
    assert clock.now() == pytest.approx(100.5)


def test_closing_ends_the_wait_for_company() -> None:
    rig = Rig("a", "b")
    rig.offer("a", 0)
    clock = FakeClock((0.1, rig.close))
    assert rig.collect(clock, max_delay=60.0) == ["a0"]
    assert clock.now() == pytest.approx(100.1)


def test_closing_ends_the_wait_for_a_first_frame() -> None:
    rig = Rig("a", "b")
    assert rig.collect(FakeClock((5.0, rig.close)), max_delay=60.0) == []


def test_closed_lanes_are_drained_before_the_end() -> None:
    rig = Rig("a", "b")
    rig.offer("a", 0, 1, 2)
    rig.offer("b", 0)
    rig.close()
    assert rig.collect(max_size=3, max_delay=60.0) == ["a0", "b0", "a1"]
    assert rig.collect(max_size=3, max_delay=60.0) == ["a2"]
    assert rig.collect(max_size=3, max_delay=60.0) == []


def test_one_closed_lane_does_not_end_the_others() -> None:
    rig = Rig("a", "b")
    rig.lanes["a"].close()
    clock = FakeClock((3.0, lambda: rig.offer("b", 0)))
    assert rig.collect(clock) == ["b0"]


def test_no_lanes_is_the_end() -> None:
    assert Rig().collect() == []


def test_a_flooding_lane_takes_no_more_turns_than_a_slow_one() -> None:
    rig = Rig("flood", "slow", "idle")
    rig.offer("flood", *range(50))
    rig.offer("slow", 0, 1)
    assert rig.collect(max_size=4) == ["flood0", "slow0", "flood1", "slow1"]


def test_frames_that_are_too_old_are_dropped_and_counted() -> None:
    rig = Rig("a", "b", live="a")
    rig.offer("a", 0, 1, left=-0.001)
    rig.offer("a", 2, left=0.0)
    rig.offer("b", 7, left=-99.0)
    assert rig.collect() == ["a2", "b7"], "a lost its turn by its old frames"
    book = rig.lanes["a"].ledger.read()
    assert book.dropped[INFERENCE, Reason.TOO_OLD] == 2
    assert rig.lanes["b"].ledger.read().dropped_at(INFERENCE) == 0


def test_nothing_but_old_frames_is_no_batch() -> None:
    rig = Rig("a", live="a")
    rig.offer("a", 0, 1, left=-1.0)
    clock = FakeClock((1.0, rig.close))
    assert rig.collect(clock) == []
    assert clock.waits == [None]
    assert rig.lanes["a"].ledger.read().balanced


def test_a_frame_that_would_be_late_in_a_larger_batch_leads_the_next() -> None:
    rig = Rig("a", "b", live="b", of_2=5.0)
    rig.offer("a", 0, 1)
    rig.offer("b", 0, 1, left=4.9)
    assert rig.collect() == ["a0"]
    assert rig.collect() == ["b0"]


@pytest.mark.parametrize(("left", "names"), [(7.0, ["a0", "b0", "a1"]), (6.9, ["a0", "b0"])])
def test_a_frame_in_a_hurry_is_not_made_late_by_those_that_follow_it(
    left: float, names: list[str]
) -> None:
    rig, clock = Rig("a", "b", live="a", of_2=5.0, of_3=7.0, of_4=9.0), FakeClock()
    rig.offer("a", 0, left=left)
    rig.offer("a", 1)
    rig.offer("b", 0, 1)
    assert rig.collect(clock, max_delay=9.0) == names
    assert clock.waits == []


@pytest.mark.parametrize(
    ("left", "names", "until"),
    [
        (0.1, ["a0"], 100.1),
        (5.1, ["a0"], 100.1),
        (5.2, ["a0", "b0"], 100.2),
        (6.0, ["a0", "b0"], 100.2),
    ],
)
def test_company_is_waited_for_only_while_it_could_join(
    left: float, names: list[str], until: float
) -> None:
    rig = Rig("a", "b", live="a", **({"of_1": 3.0, "of_2": 5.0} if left > 1 else {}))
    rig.offer("a", 0, left=left + 1e-9)
    clock = FakeClock((0.2, lambda: rig.offer("b", 0, 1)))
    assert rig.collect(clock, max_delay=0.5) == names
    assert clock.now() == pytest.approx(until, abs=1e-6)


@pytest.mark.parametrize(("took", "until"), [(0.3, 100.3), (0.7, 100.5)])
def test_company_is_waited_for_no_longer_than_the_batch_takes(took: float, until: float) -> None:
    rig = Rig("a", "b", of_1=took)
    rig.offer("a", 0)
    clock = FakeClock((0.6, lambda: rig.offer("b", 0)))
    assert rig.collect(clock, max_delay=0.5) == ["a0"]
    assert clock.now() == pytest.approx(until)


def test_a_lane_that_blocks_has_no_deadline() -> None:
    arrivals, clock = Arrivals(), FakeClock()
    policy = Backpressure.BLOCK
    lane = Lane(
        "a", policy, depth=2, inbox=2, arrivals={MODEL: arrivals}, sinks=[], max_frame_age=MAX_AGE
    )
    lane.offer(frame(0, clock.now() - 99.0))
    batch = collect([lane.inboxes[MODEL]], arrivals, Batching(1, 0.0), Forecast(), clock)
    assert [(taken.frame.frame_id, taken.deadline) for taken in batch] == [(0, inf)]


class CountingForecast(Forecast):
    """Counts how often it is asked."""

    asked = 0

    def predict(self, size: int) -> float:
        self.asked += 1
        return super().predict(size)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_each_frame_is_judged_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of collecting must not grow faster than a batch."""
    judged = 0
    judge = Inbox.drop_overdue

    def counting(inbox: Inbox, now: float) -> float | None:
        nonlocal judged
        judged += 1
        return judge(inbox, now)

    monkeypatch.setattr(Inbox, "drop_overdue", counting)
    rig = Rig(*"abcd", live="abcd")
    rig.forecast = CountingForecast()
    rig.forecast.learn(1, 0.001)
    for name in "abcd":
        rig.offer(name, *range(size // 4))
    assert len(rig.collect(max_size=size)) == size
    assert rig.forecast.asked <= size + 1
    assert judged == size


def test_the_system_clock_waits_on_the_condition() -> None:
    arrivals, clock = Arrivals(), SystemClock()
    lane = Lane("a", Backpressure.BLOCK, depth=2, inbox=2, arrivals={MODEL: arrivals}, sinks=[])
    offered = frame(3)
    before = clock.now()
    writer = threading.Thread(target=lambda: lane.offer(offered), daemon=True)
    with lane.lock:  # it offers as soon as this thread waits or is done
        writer.start()
    batch = collect([lane.inboxes[MODEL]], arrivals, Batching(1, 0.0), Forecast(), clock)
    assert [(taken.lane, taken.frame, taken.deadline) for taken in batch] == [(lane, offered, inf)]
    assert clock.now() >= before
    writer.join()


def test_whoever_waits_longest_leads_the_next_batch() -> None:
    rig = Rig("a", "b", "c", "d")
    for name in "bcad":
        rig.offer(name, 0, 1)
    assert rig.collect(max_size=3) == ["b0", "c0", "a0"]
    assert rig.collect(max_size=3) == ["d0", "b1", "c1"]
    assert rig.collect() == ["a1", "d1"]


def test_nobody_is_woken_before_there_is_enough() -> None:
    rig, wakings = Rig("a", "b"), list[float]()
    rig.arrivals.wake = lambda: wakings.append(1.0)  # type: ignore[method-assign]
    clock = FakeClock(
        (1.0, lambda: rig.offer("a", 0)),
        (1.1, lambda: rig.offer("b", 0, 1)),
        (1.2, lambda: wakings.append(0.0)),
        (1.3, lambda: rig.offer("a", 1)),
    )
    assert rig.collect(clock, max_delay=0.5) == ["a0", "b0", "b1", "a1"]
    assert wakings == [1.0, 0.0, 1.0], "for the first frame, and for the one that fills the batch"


def test_a_full_lane_is_collected_before_it_loses_a_frame() -> None:
    """In a burst, a camera's frames join the batch instead of replacing one another."""
    arrivals, wakings = Arrivals(), list[int]()
    policy = Backpressure.DROP_OLDEST
    lane = Lane("a", policy, depth=8, inbox=2, arrivals={MODEL: arrivals}, sinks=[])
    arrivals.wake = lambda: wakings.append(lane.waiting)  # type: ignore[method-assign]

    def burst() -> None:
        """Offer frames until the thread that collects is woken."""
        wakings.clear()
        for _ in range(5):
            if not wakings:
                lane.offer(frame(lane.ledger.read().captured))

    clock = FakeClock((1.0, burst), (1.0, burst), (1.0, burst))
    batch = collect([lane.inboxes[MODEL]], arrivals, Batching(8, 0.5), Forecast(), clock)
    assert [taken.frame.frame_id for taken in batch] == [0, 1, 2, 3, 4]
    assert not lane.ledger.read().dropped_at(CAPTURE)


def largest(forecast: Forecast, budget: float) -> int:
    """Return how many of eight frames are collected that are of use for ``budget`` seconds."""
    rig = Rig("a", live="a")
    rig.forecast = forecast
    rig.offer("a", *range(8), left=budget)
    rig.close()
    return len(rig.collect(max_size=8))


def test_nothing_is_known_at_first() -> None:
    assert Forecast().predict(8) == 0.0
    assert largest(Forecast(), 0.0) == 8


def test_what_was_measured_is_predicted() -> None:
    forecast = a_forecast(of_1=0.1, of_4=0.2)
    assert forecast.predict(1) == pytest.approx(0.1)
    assert forecast.predict(4) == pytest.approx(0.2)


def test_it_follows_a_change_slowly() -> None:
    forecast = a_forecast(of_1=0.1)
    forecast.learn(1, 1.1)
    assert forecast.predict(1) == pytest.approx(0.3)
    for _ in range(20):
        forecast.learn(1, 1.1)
    assert forecast.predict(1) == pytest.approx(1.1, rel=0.02)


def test_an_unseen_size_lies_between_what_is_known() -> None:
    forecast = a_forecast(of_2=0.1, of_8=0.25)
    assert forecast.predict(1) == pytest.approx(0.1)
    assert forecast.predict(4) == pytest.approx(0.2)  # twice as many frames, twice as long
    assert forecast.predict(6) == pytest.approx(0.25)  # not longer than 8
    assert forecast.predict(16) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("budget", "size"), [(1.0, 8), (0.8, 8), (0.79, 7), (0.25, 2), (0.05, 1), (0.0, 1), (-1, 0)]
)
def test_a_batch_is_as_large_as_can_be_in_time_and_a_frame_alone_is_tried(
    budget: float, size: int
) -> None:
    assert largest(a_forecast(of_1=0.1, of_8=0.8001 - 1e-4), budget + 1e-9) == size


@given(st.dictionaries(st.integers(1, 70), st.floats(0.001, 10.0), min_size=1), st.integers(1, 99))
def test_no_size_takes_longer_than_a_larger_one_nor_longer_per_frame_than_a_smaller(
    known: dict[int, float], size: int
) -> None:
    forecast = Forecast()
    for batch, seconds in known.items():
        forecast.learn(batch, seconds)
    bounds = [seconds * max(1.0, size / batch) for batch, seconds in known.items()]
    assert forecast.predict(size) == pytest.approx(min(bounds))


def test_one_slow_batch_does_not_shut_its_size_out_for_good() -> None:
    forecast = a_forecast(of_8=0.1)
    forecast.learn(8, 60.0)
    smaller = largest(forecast, 0.5)
    assert smaller < 8
    forecast.learn(smaller, 0.03)
    assert largest(forecast, 0.5) == 8

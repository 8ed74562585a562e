"""Letting frames through evenly, at the source's pace, and trying again later."""

import itertools
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.capture.intake import Pacer, Thinner
from centernetd.capture.stage import Backoff
from tests.fakes import WAIT_TIMEOUT


def let_through(max_fps: float, times: list[float]) -> list[float]:
    thinner = Thinner(max_fps)
    return [at for at in times if thinner.wants(at)]


def at_rate(fps: float, seconds: float, start: float = 0.0) -> list[float]:
    return [start + n / fps for n in range(round(fps * seconds))]


@pytest.mark.parametrize(
    ("fps", "max_fps"), [(25, 10), (30, 29.97), (25, 24), (60, 1), (29.97, 10), (30, 7), (1000, 30)]
)
def test_the_mean_rate_is_kept_evenly(fps: float, max_fps: float) -> None:
    passed = let_through(max_fps, at_rate(fps, 100))
    assert len(passed) == pytest.approx(100 * max_fps, abs=1)
    gaps = [b - a for a, b in itertools.pairwise(passed)]
    assert max(gaps) - min(gaps) <= 1 / fps + 1e-9  # never off by more than one frame


@pytest.mark.parametrize("max_fps", [25, 25.0001, 30, 1000])
def test_a_source_that_is_slow_enough_is_left_alone(max_fps: float) -> None:
    times = at_rate(25, 100)
    assert let_through(max_fps, times) == times


def test_times_rounded_to_milliseconds_lose_nothing() -> None:
    times = [float(round(Fraction(n, 30) * 1000)) / 1000 for n in range(3000)]
    assert let_through(30, times) == times


def test_a_gap_is_not_made_up_for() -> None:
    times = at_rate(25, 2) + at_rate(25, 2, start=100.0)
    passed = let_through(5, times)
    assert len([at for at in passed if at >= 100]) == 10
    assert 100.0 in passed


@given(
    st.floats(0.1, 100),
    st.lists(st.floats(1e-3, 5), min_size=1, max_size=100),
)
def test_the_rate_is_never_exceeded(max_fps: float, gaps: list[float]) -> None:
    passed = let_through(max_fps, list(itertools.accumulate(gaps)))
    assert passed
    for first, last in itertools.combinations(range(len(passed)), 2):
        length = passed[last] - passed[first] + 2e-3  # times are rounded
        assert last - first <= length * max_fps + 1


def test_backing_off_doubles_up_to_5_seconds_with_jitter() -> None:
    backoff = Backoff()
    for limit in [0.5, 1, 2, 4, 5, 5, 5]:
        assert 0.75 * limit <= backoff.after(0.0) <= limit
    assert len({backoff.after(0.0) for _ in range(50)}) > 40


def test_the_time_a_try_took_counts_as_waited() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(0.0)
    assert 0.75 * 2 <= backoff.after(3.0) <= 2
    assert 0.75 * 0.5 <= backoff.after(10.0) <= 0.5


class Clock(threading.Event):
    """A clock, and an event that is never set; waiting for either takes no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.sleep(timeout)
        return False


def waits(clock: Clock, frames: list[tuple[float, float]]) -> list[float]:
    """Return how long a pacer waits with frames that come at these times, by the clock and ours."""
    pacer, found = Pacer(clock), []
    for now, at in frames:
        clock.now = now
        pacer.wait(at)
        found.append(clock.now - now)
    return found


def test_frames_are_held_back_until_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(50.0, 3.0), (50.01, 3.04), (50.2, 3.1), (50.2, 4.0)]
    assert waits(Clock(monkeypatch), frames) == pytest.approx([0.0, 0.03, 0.0, 0.8])


def test_after_a_delay_the_pace_goes_on_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(50.0, 0.0), (53.0, 1.0), (53.0, 2.0), (54.0, 3.0)]
    assert waits(Clock(monkeypatch), frames) == pytest.approx([0.0, 0.0, 1.0, 1.0])


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    pacer = Pacer(stop)
    pacer.wait(0.0)
    waiting = threading.Thread(target=pacer.wait, args=(1e6,), daemon=True)
    waiting.start()
    stop.set()
    waiting.join(WAIT_TIMEOUT)
    assert not waiting.is_alive()
    pacer.wait(2e6)

"""One strictly increasing timeline, whatever the source's clock does."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.capture.timeline import Timeline

TB = Fraction(1, 90_000)
MILLISECONDS = Fraction(1, 1000)


def live(*steps: tuple[float | None, float]) -> list[float]:
    """Stamp (source seconds or None, monotonic seconds) and return timeline seconds."""
    timeline = Timeline()
    return [
        float(timeline.stamp(None if pts is None else round(pts / TB), TB, now) * TB)
        for pts, now in steps
    ]


@pytest.mark.parametrize("time_base", [TB, Fraction(1, 12_800), Fraction(1001, 30_000)])
def test_a_file_keeps_its_pts_and_time_base_exactly(time_base: Fraction) -> None:
    timeline = Timeline(time_base)
    pts = [7200, 10_800, 10_801, 100_000, 2**40]
    assert timeline.time_base == time_base
    assert [timeline.stamp(p, time_base, 0.0) for p in pts] == pts


def test_a_file_whose_frames_have_another_time_base_is_converted() -> None:
    timeline = Timeline(MILLISECONDS)
    assert [timeline.stamp(p, TB, 0.0) for p in (0, 3600, 7200)] == [0, 40, 80]


def test_repeated_backward_and_missing_pts_of_a_file_are_moved_just_behind_the_last() -> None:
    timeline = Timeline(MILLISECONDS)
    pts = [0, 40, 40, 20, None, 120, 160]
    assert [timeline.stamp(p, MILLISECONDS, 0.0) for p in pts] == [0, 40, 41, 42, 43, 120, 160]


def test_a_file_without_any_pts_starts_at_0() -> None:
    timeline = Timeline(MILLISECONDS)
    assert [timeline.stamp(None, MILLISECONDS, 9.0) for _ in range(3)] == [0, 1, 2]


def test_a_second_recording_in_a_file_keeps_its_pace_behind_the_first() -> None:
    timeline = Timeline(MILLISECONDS)
    pts = [5000, 5040, 5080, 0, 40, 80]
    stamped = [timeline.stamp(p, MILLISECONDS, 0.0) for p in pts]
    assert stamped == [5000, 5040, 5080, 5120, 5160, 5200]


def test_a_live_stream_starts_at_0_and_keeps_the_sources_differences() -> None:
    pts = [1000.0, 1000.04, 1000.08, 1000.20]
    times = live(*((p, 50.0 + i * 0.05) for i, p in enumerate(pts)))
    assert times == pytest.approx([0.0, 0.04, 0.08, 0.20], abs=1e-9)


def test_pictures_without_pts_take_the_clock() -> None:
    assert live((None, 7.0), (None, 7.2), (None, 7.3)) == pytest.approx([0.0, 0.2, 0.3], abs=1e-4)


@pytest.mark.parametrize("landing", [0.0, 500.0, 99.9, 103.0, 1e6])
def test_a_jump_of_the_sources_clock_continues_by_ours(landing: float) -> None:
    times = live((100.0, 0.0), (100.04, 0.04), (landing, 0.09), (landing + 0.04, 0.13))
    assert times == pytest.approx([0.0, 0.04, 0.09, 0.13], abs=1e-4)


def test_a_reconnection_continues_by_the_clock_and_forgets_the_lag() -> None:
    timeline = Timeline()
    timeline.stamp(0, TB, 10.0)
    timeline.stamp(90_000, TB, 14.0)
    assert timeline.lag == pytest.approx(3.0, abs=0.01)
    timeline.reconnected()
    assert timeline.lag == 0.0
    assert timeline.stamp(777, TB, 16.5) == 90_000 + round(2.5 * 90_000)
    assert timeline.stamp(777 + 3600, TB, 16.6) == 90_000 + round(2.5 * 90_000) + 3600
    assert timeline.lag == pytest.approx(0.06, abs=0.01)


def test_pictures_that_come_late_keep_their_time_and_show_as_lag() -> None:
    """A camera that froze for 8 s and goes on where it was is 8 s late, not elsewhere in time."""
    timeline = Timeline()
    timeline.stamp(0, TB, 0.0)
    assert timeline.stamp(3600, TB, 8.04) == 3600
    assert timeline.lag == pytest.approx(8.0, abs=0.01)
    assert timeline.stamp(7200, TB, 8.08) == 7200
    assert timeline.lag == pytest.approx(8.0, abs=0.01)


def test_a_late_source_that_catches_up_is_not_taken_to_jump() -> None:
    """What a network held back comes in a burst, or is skipped: the times stay the source's."""
    timeline = Timeline()
    timeline.stamp(0, TB, 0.0)
    timeline.stamp(3600, TB, 8.0)
    assert timeline.stamp(8 * 90_000, TB, 8.04) == 8 * 90_000
    assert timeline.lag == pytest.approx(0.04, abs=0.01)


def test_a_burst_on_connecting_is_not_taken_to_jump() -> None:
    assert live(*((i * 0.04, i * 0.001) for i in range(100)))[-1] == pytest.approx(99 * 0.04)


@pytest.mark.parametrize("ppm", [-100, -50, 50, 100])
def test_a_clock_that_drifts_is_neither_late_nor_ahead(ppm: float) -> None:
    """A fortnight, a picture every 2 min; uncorrected it would be 60 s off, or 120."""
    timeline = Timeline()
    for second in range(0, 14 * 86_400, 120):
        pts = round(second * (1 - ppm / 1e6) / TB)
        assert timeline.stamp(pts, TB, float(second)) == pts
        assert abs(timeline.lag) < 0.5


def test_pictures_that_come_ever_earlier_take_the_clock_in_the_end() -> None:
    """A camera that stamps 20 pictures a second and sends 25: an hour of it would last 75 min."""
    times = live(*((n * 0.05, n * 0.04) for n in range(25 * 120)))
    assert times[1] - times[0] == pytest.approx(0.05)
    assert times[-1] - times[-2] == pytest.approx(0.04, abs=1e-4)
    assert times[-1] - 0.04 * (25 * 120 - 1) == pytest.approx(10, abs=0.1)


def test_pictures_that_come_ever_later_are_late_all_the_same() -> None:
    """A source that gives 24 seconds of pictures in 25 is 10 s late after some 4 minutes."""
    timeline = Timeline()
    for second in range(300):
        timeline.stamp(round(second * 24 / 25 / TB), TB, float(second))
    assert timeline.lag == pytest.approx(12, abs=0.1)


PTS = st.one_of(st.none(), st.integers(-(2**40), 2**40), st.integers(0, 5))


@given(
    st.sampled_from([None, TB, MILLISECONDS, Fraction(1, 25)]),
    st.lists(st.tuples(PTS, st.floats(0, 100), st.booleans()), max_size=30),
)
def test_time_always_increases(
    time_base: Fraction | None, frames: list[tuple[int | None, float, bool]]
) -> None:
    timeline = Timeline(time_base)
    now, last = 0.0, None
    for pts, passed, anew in frames:
        if anew:
            timeline.reconnected()
        now += passed
        stamped = timeline.stamp(pts, time_base or TB, now)
        assert last is None or stamped > last
        last = stamped

"""One strictly increasing timeline, whatever the source's clock does."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.capture.timeline import Timeline

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


def test_the_frames_of_a_file_may_change_their_time_base() -> None:
    timeline = Timeline(MILLISECONDS)
    known = [Fraction(1, 25), TB, Fraction(1, 90), 2 * MILLISECONDS, Fraction(1), MILLISECONDS]
    order = [*known, *reversed(known)]
    for seconds, time_base in enumerate(order):
        pts = round(seconds / time_base)
        assert timeline.stamp(pts, time_base, 0.0) == seconds * 1000


def test_repeated_backward_and_missing_pts_of_a_file_are_moved_just_behind_the_last() -> None:
    timeline = Timeline(MILLISECONDS)
    pts = [0, 40, 40, 20, None, 120, 160]
    assert [timeline.stamp(p, MILLISECONDS, 0.0) for p in pts] == [0, 40, 41, 42, 43, 120, 160]


def test_a_file_without_any_pts_starts_at_0() -> None:
    timeline = Timeline(MILLISECONDS)
    assert [timeline.stamp(None, MILLISECONDS, 9.0) for _ in range(3)] == [0, 1, 2]


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


@pytest.mark.parametrize(("step", "kept"), [(1.96, 1.96), (2.02, 2.02), (2.06, 0.04), (2.1, 0.04)])
def test_a_step_ahead_by_more_than_two_seconds_is_a_jump(step: float, kept: float) -> None:
    times = live((100.0, 0.0), (100.04, 0.04), (100.04 + step, 0.08), (100.08 + step, 0.12))
    assert times == pytest.approx([0, 0.04, 0.04 + kept, 0.08 + kept], abs=1e-4)


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


@pytest.mark.parametrize("pts", [777, None])
def test_a_first_picture_is_not_late_and_gives_no_reason_for_distrust(pts: int | None) -> None:
    timeline = Timeline()
    assert timeline.lag == 0
    assert not timeline.distrust()
    timeline.stamp(pts, TB, 0.0)
    assert timeline.lag == 0
    assert not timeline.distrust()
    timeline.reconnected()
    assert not timeline.distrust()
    timeline.stamp(pts, TB, 9.0)
    assert timeline.lag == 0
    assert not timeline.distrust()


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


@pytest.mark.parametrize("rate", [1.1, 1.25, 2.0, 8.0])
def test_stamps_that_run_ahead_for_long_are_not_believed_any_more(rate: float) -> None:
    timeline = Timeline()
    arrivals = iter(n * 0.04 for n in range(25 * 150))
    for now in arrivals:
        timeline.stamp(round(now * rate / TB), TB, now)
        if timeline.by_arrival:
            break
    assert timeline.by_arrival
    assert timeline.lag == 0
    steps = list(pairwise(timeline.stamp(round(now * rate / TB), TB, now) for now in arrivals))
    assert {b - a for a, b in steps} <= {3599, 3600, 3601}


@pytest.mark.parametrize("rate", [0.001, 0.5, 21 / 25, 0.96])
def test_a_lag_that_builds_up_evenly_is_the_stamps_fault(rate: float) -> None:
    """A camera that stamps 25 pictures a second and sends 21 is 10 s late after a minute."""
    timeline = Timeline()
    arrivals = iter(n * 0.04 for n in range(25 * 400))
    for now in arrivals:
        last = timeline.stamp(round(now * rate / TB) + 777, TB, now)
        if timeline.lag > 10:
            break
    assert timeline.lag == pytest.approx(10, abs=0.1)
    assert timeline.distrust()
    assert timeline.lag == 0
    for now in arrivals:
        stamped = timeline.stamp(round(now * rate / TB) + 777, TB, now)
        assert stamped - last == pytest.approx(3600, abs=1)
        last = stamped
        assert abs(timeline.lag) < 0.01


@pytest.mark.parametrize("pauses", [[10.5], [6.0, 5.0], [4.0, 4.0, 4.0], [3.0, 3.0, 3.0, 1.5]])
def test_a_lag_of_a_few_pauses_is_a_lag(pauses: list[float]) -> None:
    timeline, now = Timeline(), 0.0
    for n in range(25 * 60):
        now += 0.04 + (pauses[n // 25 - 1] if n % 25 == 0 and 0 < n // 25 <= len(pauses) else 0)
        timeline.stamp(n * 3600, TB, now)
    assert timeline.lag == pytest.approx(sum(pauses), abs=0.05)
    assert not timeline.distrust()
    assert timeline.lag == pytest.approx(sum(pauses), abs=0.05)
    assert not timeline.by_arrival


def test_what_is_found_of_the_stamps_counts_for_one_connection() -> None:
    timeline = Timeline()
    for second in range(300):
        timeline.stamp(round(second * 0.9 / TB), TB, float(second))
    assert timeline.distrust()
    timeline.reconnected()
    assert not timeline.by_arrival
    start = timeline.stamp(5, TB, 400.0)
    assert timeline.stamp(3605, TB, 400.06) == start + 3600


def test_drift_counts_for_one_connection() -> None:
    timeline = Timeline()
    for second in range(0, 10_000, 10):
        timeline.stamp(round(second * 0.9999 / TB), TB, float(second))
    assert abs(timeline.lag) < 0.01, "1 s of drift"
    timeline.reconnected()
    timeline.stamp(5, TB, 11_000.0)
    timeline.stamp(5 + 3600, TB, 11_000.04)
    assert abs(timeline.lag) < 0.01


def test_a_connection_may_begin_with_the_stamp_that_ended_the_last() -> None:
    timeline = Timeline()
    timeline.stamp(7200, TB, 0.0)
    timeline.reconnected()
    start = timeline.stamp(7200, TB, 5.0)
    assert start == 5 * 90_000
    assert timeline.stamp(10_800, TB, 5.07) == start + 3600


def test_the_largest_slip_counts_for_one_connection() -> None:
    timeline = Timeline()
    timeline.stamp(0, TB, 0.0)
    timeline.stamp(3600, TB, 9.0)
    timeline.reconnected()
    for n in range(1000):
        timeline.stamp(n * 3600, TB, 100 + n * 0.05)
    assert timeline.lag == pytest.approx(9.8, abs=0.2)
    assert timeline.distrust()


def test_stamps_that_stand_still_are_no_time() -> None:
    assert live(*((7.0, n * 0.1) for n in range(50))) == pytest.approx([n * 0.1 for n in range(50)])


def test_each_stamp_twice_gives_the_clock_between_them() -> None:
    times = live(*((n // 2 * 0.08, n * 0.04) for n in range(100)))
    assert times == pytest.approx([n * 0.04 for n in range(100)], abs=1e-4)


def test_stamps_that_go_on_after_standing_still_are_believed_from_there() -> None:
    stood = [(7.0, n * 0.1) for n in range(50)]
    times = live(*stood, *((7.1 + n * 0.1, 5 + n * 0.1) for n in range(50)))
    assert times == pytest.approx([n * 0.1 for n in range(100)])


def test_a_stamp_that_falls_on_the_last_picture_continues_by_the_clock() -> None:
    times = live((7.0, 0.0), (7.0, 0.1), (7.1, 0.2), (7.2, 0.3))
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_burst_of_more_than_is_believed_takes_the_clock_and_then_the_stamps_again() -> None:
    """A server that sends 15 s of the past on connecting has good stamps."""
    timeline = Timeline()
    for n in range(15 * 25):
        timeline.stamp(n * 3600, TB, 1000 + n * 0.001)
    start = timeline.stamp(15 * 25 * 3600, TB, 1000.4)
    for n in range(1, 25 * 60):
        assert timeline.stamp((15 * 25 + n) * 3600, TB, 1000.4 + n * 0.04) == start + n * 3600
    assert not timeline.by_arrival


@pytest.mark.parametrize("jitter", [0.03, 0.5, 1.5])
def test_pictures_that_come_in_bursts_keep_their_stamps(jitter: float) -> None:
    """Half as many bursts a second as Wi-Fi or a busy camera makes."""
    arrivals = [n * 0.04 + jitter * (1 - n % 25 / 25) for n in range(25 * 60)]
    times = live(*((n * 0.04, max(arrivals[: n + 1])) for n in range(25 * 60)))
    assert times == pytest.approx([n * 0.04 for n in range(25 * 60)])


def test_time_by_arrival_asks_no_stamps() -> None:
    timeline = Timeline(by_arrival=True)
    steps = [(500.0, 10.0), (None, 10.1), (0.0, 10.2), (0.0, 10.3), (1e6, 10.4)]
    pts = [timeline.stamp(None if p is None else round(p / TB), TB, now) for p, now in steps]
    assert pts == pytest.approx([n * 9000 for n in range(5)], abs=2)
    timeline.reconnected()
    assert timeline.by_arrival
    assert timeline.stamp(3, TB, 11.4) == pytest.approx(14 * 9000, abs=2)
    assert timeline.lag == 0


def test_drift_that_is_made_up_for_is_no_more_than_two_hundred_ppm() -> None:
    """A clock 2,000 ppm slow is 18 s late in 10,000 s, and 1.8 s less after another 9,000."""
    timeline = Timeline()
    for second in range(0, 10_000, 10):
        timeline.stamp(round(second * 0.998 / TB), TB, float(second))
    assert timeline.lag == pytest.approx(18, abs=0.1)


def test_time_that_a_file_announces_in_another_unit_is_the_same() -> None:
    timeline = Timeline(Fraction(1, 25))
    assert [timeline.stamp(n * 3600, TB, 5.0) for n in range(4)] == [0, 1, 2, 3]
    assert timeline.stamp(None, TB, 5.0) == 4


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
    for pts, passed, restarts in frames:
        if restarts:
            timeline.reconnected()
        now += passed
        stamped = timeline.stamp(pts, time_base or TB, now)
        assert last is None or stamped > last
        last = stamped


def test_a_small_lag_that_builds_up_evenly_shows_the_same() -> None:
    timeline = Timeline()
    for n in range(25 * 30):
        timeline.stamp(round(n * 0.04 * 0.9 / TB), TB, n * 0.04)
    assert timeline.lag == pytest.approx(3, abs=0.05)
    assert timeline.distrust()

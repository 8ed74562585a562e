"""Cuts in a file: recordings joined end to end, clocks that were set, and holes that are meant."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.capture.timeline import Splice
from tests import clips
from tests.capture_rig import video_source

MILLISECONDS = Fraction(1, 1000)
HOUR = 3_600_000


def moved(*dts: int | None) -> list[int]:
    splice = Splice(MILLISECONDS)
    return [splice.shift(time, time) + (time or 0) for time in dts]


def run(start: int, count: int = 5, step: int = 40) -> list[int]:
    return list(range(start, start + count * step, step))


@pytest.mark.parametrize("away", [-30 * HOUR, -HOUR, -2000, -1000, -401, 10_401, HOUR, 30 * HOUR])
@pytest.mark.parametrize("first", [-HOUR, 0, 1400, HOUR])
def test_what_follows_a_cut_keeps_its_pace_behind_what_precedes_it(first: int, away: int) -> None:
    times = run(first, 50)
    assert moved(*times, *run(times[-1] + away, 50)) == run(first, 100)


@pytest.mark.parametrize(
    ("times", "why"),
    [
        (run(5, 200, 7), "nothing happens"),
        ([*run(0), 9_000, 9_040], "a hole of less than ten seconds"),
        ([*run(0), 10_160, 10_200], "and one of just that"),
        ([0, 30_000, 60_000, 90_000, 390_000], "a time lapse that left nine pictures out"),
        ([0, 1_000_000], "a first gap, which nothing can be compared with"),
        ([0, 40, 80, 60, 120, 160], "a step back of less than a picture"),
        ([40, 40, 40, 80], "times that repeat"),
        ([*run(10_000), 9_760, 10_240], "a step back of ten pictures"),
        ([5_000, 3_000, 3_040], "a step back by two seconds in one go"),
        ([*run(0, 3, 2000), 2_000], "nor where pictures are two seconds apart"),
    ],
)
def test_what_is_no_cut(times: Sequence[int], why: str) -> None:
    assert moved(*times) == list(times), why


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([*run(0), 10_161], 200),
        ([0, 30_000, 60_000, 360_001], 90_000),
        ([*run(10_000), 9_759], 10_200),
        ([*run(0, 3, 2000), 1_999], 6_000),
        ([5_000, 2_999], 5_001),
    ],
)
def test_the_least_that_is_a_cut(times: Sequence[int], expected: int) -> None:
    assert moved(*times)[-1] == expected


def test_only_the_last_hundred_gaps_count() -> None:
    long_ago = [0, 9_000, *run(9_040, 99)]
    assert moved(*long_ago, long_ago[-1] + 50_000)[-1] == long_ago[-1] + 50_000
    long_ago = [0, 9_000, *run(9_040, 100)]
    assert moved(*long_ago, long_ago[-1] + 50_000)[-1] == long_ago[-1] + 40


def test_a_cut_is_no_gap_to_compare_with() -> None:
    """Clips of a camera that records when something moves, hours apart."""
    assert moved(*run(0), *run(HOUR), *run(3 * HOUR), *run(3 * HOUR + 20_000)) == run(0, 20)


@pytest.mark.parametrize(
    ("times", "step"), [([0, 40, 120], 80), ([0, 40, 120, 120], 80), ([0, 40, 120, 110], 80)]
)
def test_what_follows_a_cut_is_as_far_behind_as_pictures_were_last(
    times: Sequence[int], step: int
) -> None:
    assert moved(*times, 30 * HOUR)[-1] == 120 + step


def test_neither_what_is_decoded_nor_what_is_shown_behind_a_cut_overlaps() -> None:
    splice = Splice(MILLISECONDS)
    for time in (0, 40, 80):
        splice.shift(time, time)
    assert HOUR + splice.shift(HOUR, HOUR + 120) == 120
    assert HOUR + 40 + splice.shift(HOUR + 40, HOUR + 40) == 160
    assert 0 + splice.shift(0, 0) == 240 + 40, "the last picture is shown at 240"


def test_pictures_that_are_shown_out_of_order_stay_so_on_both_sides() -> None:
    splice = Splice(MILLISECONDS)
    order = [(0, 80), (40, 200), (80, 120), (120, 160)]
    assert {splice.shift(dts, pts) for dts, pts in order} == {0}
    (shift,) = {splice.shift(dts + HOUR, pts + HOUR) for dts, pts in order}
    assert [pts + HOUR + shift for _, pts in order] == [240, 360, 280, 320]


def test_packets_without_times_move_like_those_before() -> None:
    splice = Splice(MILLISECONDS)
    for time in [*run(HOUR), 0]:
        shift = splice.shift(time, None)
    assert shift == HOUR + 200
    assert splice.shift(None, None) == shift
    assert splice.shift(None, 40) == shift
    assert splice.cuts == 1


@given(st.lists(st.integers(-(2**33), 2**33), max_size=50))
def test_no_step_back_is_large_and_without_a_cut_nothing_moves(times: list[int]) -> None:
    splice = Splice(MILLISECONDS)
    shifts = [splice.shift(time, time) for time in times]
    found = [time + shift for time, shift in zip(times, shifts, strict=True)]
    assert all(b - a >= -2000 for a, b in pairwise(found))
    assert splice.cuts == sum(a != b for a, b in pairwise([0, *shifts]))


@pytest.mark.parametrize("encoding", [{"bf": "0"}, {"bf": "2"}], ids=["in order", "B-frames"])
@pytest.mark.parametrize("starts", [(90_000 * 3600, 0), (0, 90_000 * 3600), (0, 0), (9000, 0, 0)])
def test_recordings_joined_end_to_end_lose_nothing(
    tmp_path: Path, starts: Sequence[int], encoding: dict[str, str]
) -> None:
    time_base = Fraction(1, 90_000)
    parts = [
        clips.count(
            tmp_path / f"{n}.ts",
            24,
            pts=[start + i * 3600 for i in range(24)],
            time_base=time_base,
            encoding=encoding,
        )
        for n, start in enumerate(starts)
    ]
    joined = clips.joined(tmp_path / "whole.ts", *parts)
    source = video_source(joined, packets=True)
    pictures = list(source)
    source.close()
    assert len(pictures) == 24 * len(starts)
    pts = [picture.pts or 0 for picture in pictures]
    assert all(0 < b - a <= 5 * 3600 for a, b in pairwise(pts))
    assert pts[-1] - pts[0] < (len(pictures) + 6) * 3600
    dts = [packet.dts or 0 for picture in pictures for packet in picture.packets]
    assert all(0 < b - a <= 5 * 3600 for a, b in pairwise(dts))

"""The times of a file's packets and pictures: kept where they are given, made up where not."""

from fractions import Fraction
from typing import cast

import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from centernetd.capture.timeline import FileTimes

MILLISECONDS = Fraction(1, 1000)
HOUR = 3_600_000
Times = tuple[int | None, int | None]
"""The dts and pts of a packet."""


def packet(dts: int | None, pts: int | None, duration: int = 40) -> "Packet[VideoStream]":
    made = cast("Packet[VideoStream]", Packet(b"a picture"))
    made.dts, made.pts, made.duration = dts, pts, duration
    return made


def placed(times: FileTimes, dts: int | None, pts: int | None = None, duration: int = 40) -> Times:
    moved = packet(dts, pts, duration)
    times.place(moved)
    return moved.dts, moved.pts


def shown(times: FileTimes, pts: int | None, duration: int = 40) -> tuple[int, int]:
    """Show a picture to which the decoder gave these times."""
    frame = VideoFrame(16, 16)
    frame.pts, frame.duration = pts, duration
    return times.show(frame)


def test_the_times_of_a_file_are_kept() -> None:
    times = FileTimes(MILLISECONDS, without_pts=False)
    order: list[tuple[int, int]] = [(0, 80), (40, 200), (80, 120), (120, 160)]
    assert [placed(times, *each) for each in order] == order
    for pts in (80, 120, 160, 200):
        assert shown(times, pts) == (pts, pts)
        assert times.end == pts + 40
    assert times.cuts == 0


@pytest.mark.parametrize("missing", ["dts", "pts"])
def test_behind_a_cut_packets_keep_what_they_have(missing: str) -> None:
    times = FileTimes(MILLISECONDS, without_pts=False)
    for time in (HOUR, HOUR + 40, HOUR + 80):
        assert placed(times, time, time) == (time, time)
    assert placed(times, 0, 0) == (HOUR + 120, HOUR + 120)
    assert times.cuts == 1
    if missing == "dts":
        assert placed(times, None, 40) == (None, HOUR + 160)
    else:
        assert placed(times, 40, None) == (HOUR + 160, None)
    assert placed(times, None, None) == (None, None)


def test_a_picture_without_pts_is_shown_at_the_end_of_the_last() -> None:
    times = FileTimes(MILLISECONDS, without_pts=False)
    assert times.end == 0
    assert shown(times, None) == (0, 0)
    assert shown(times, None) == (40, 40)
    assert shown(times, 500) == (500, 500)
    assert shown(times, None) == (540, 540)


def test_a_picture_without_a_duration_lasts_for_one_unit() -> None:
    times = FileTimes(MILLISECONDS, without_pts=False)
    assert shown(times, 7, duration=0) == (7, 7)
    assert times.end == 8


def test_an_elementary_stream_has_only_durations() -> None:
    times = FileTimes(MILLISECONDS, without_pts=True)
    assert placed(times, None, duration=40) == (0, 0)
    assert placed(times, None, duration=20) == (40, 40)
    assert placed(times, None, duration=0) == (60, 60)
    assert placed(times, None) == (61, 61)
    assert placed(times, 500) == (500, 500)
    assert placed(times, None) == (540, 540)


def test_a_packet_that_ends_the_file_takes_no_time() -> None:
    times = FileTimes(MILLISECONDS, without_pts=True)
    assert placed(times, None) == (0, 0)
    end = cast("Packet[VideoStream]", Packet())
    times.place(end)
    assert (end.dts, end.pts) == (None, None)
    assert placed(times, None) == (40, 40)
    assert [shown(times, dts) for dts in (0, 40)] == [(0, 0), (40, 40)]


def test_without_pts_pictures_are_shown_in_the_order_of_their_dts() -> None:
    times = FileTimes(MILLISECONDS, without_pts=True)
    assert [placed(times, dts, 999) for dts in (0, 40, 80)] == [(0, 0), (40, 40), (80, 80)]
    # The decoder hands on the packet's dts; the second picture was decoded last.
    assert [shown(times, dts) for dts in (0, 80, 40)] == [(0, 0), (80, 40), (40, 80)]
    assert times.end == 120
    assert shown(times, 160) == (160, 160), "the decoder gave one more than it got"


def test_with_pts_the_order_of_decoding_does_not_matter() -> None:
    times = FileTimes(MILLISECONDS, without_pts=False)
    for dts in (0, 40, 80):
        placed(times, dts, dts + 80)
    assert [shown(times, pts) for pts in (80, 120)] == [(80, 80), (120, 120)]


def test_a_packet_that_makes_no_picture_leaves_its_time_to_none() -> None:
    times = FileTimes(MILLISECONDS, without_pts=True)
    placed(times, 0)
    damaged = packet(40, None)
    times.place(damaged)
    times.forget(damaged)
    placed(times, 80)
    assert [shown(times, dts) for dts in (0, 80)] == [(0, 0), (80, 80)]


def test_a_packet_without_times_is_forgotten_too() -> None:
    times = FileTimes(MILLISECONDS, without_pts=False)
    damaged = packet(None, None)
    times.place(damaged)
    times.forget(damaged)
    assert shown(times, 0) == (0, 0)


@pytest.mark.parametrize(("ahead", "first"), [(0, 0), (15, 0), (16, 0), (17, 40), (18, 80)])
def test_of_more_than_sixteen_reordered_pictures_the_oldest_make_none(
    ahead: int, first: int
) -> None:
    """H.264 and H.265 reorder by no more; what waits for longer was lost without an error."""
    times = FileTimes(MILLISECONDS, without_pts=True)
    for number in range(ahead + 1):
        placed(times, number * 40)
    assert shown(times, first) == (first, first)


def test_without_pts_times_behind_a_cut_go_on() -> None:
    times = FileTimes(MILLISECONDS, without_pts=True)
    for dts in (HOUR, HOUR + 40, 0, 40):
        placed(times, dts)
    assert [shown(times, None)[1] for _ in range(4)] == [HOUR + n for n in (0, 40, 80, 120)]
    assert times.cuts == 1

"""A source's own packets: copied whole, and moved onto the stream's timeline."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.capture.packets import PacketTimeline
from centernetd.capture.source import Picture, SourcePacket
from centernetd.errors import SourceError
from centernetd.flow import Coding, HostImage, Packet
from centernetd.sink.muxer import FragmentedMp4
from tests import clips
from tests.capture_rig import video_source
from tests.fakes import TIME_BASE, image
from tests.sinks import decode, times

B_FRAMES = {"bf": "2", "g": "12"}
START_CODE = b"\x00\x00\x01"


def read(path: Path) -> tuple[list[Picture], list[Packet]]:
    source = video_source(path, packets=True)
    timeline = PacketTimeline()
    packets: list[Packet] = []
    pictures = list(source)
    for picture in pictures:
        assert picture.pts is not None
        packets += timeline.place(picture, picture.pts, source.info.time_base, 0.0)
    source.close()
    return pictures, packets


def stored(path: Path, packets: Sequence[Packet]) -> Path:
    file = FragmentedMp4(path, packets[0])
    for packet in packets:
        file.write(packet)
    file.close()
    return file.path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv", "avi", "wmv", "h264"])
@pytest.mark.parametrize("encoding", [{"bf": "0"}, {}, B_FRAMES])
def test_a_copy_shows_the_same_pictures_at_the_same_times(
    tmp_path: Path, suffix: str, encoding: dict[str, str]
) -> None:
    original = clips.count(tmp_path / f"clip.{suffix}", 50, encoding=encoding)
    pictures, packets = read(original)
    copy = stored(tmp_path / "copy.mp4", packets)
    assert len(pictures) == len(packets) == 50
    assert [packet.number for packet in packets] == list(range(1, 51))
    assert packets[0].is_keyframe
    images = [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in decode(copy)]
    numbers = [clips.number_of(image) for image in images]
    assert numbers == [number % 25 for number in range(50)]
    assert times(copy) == pytest.approx([Fraction(n, 25) for n in range(50)], abs=0.001)


def test_hevc_is_copied(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none"}
    original = clips.count(tmp_path / "clip.mkv", 30, (64, 64), codec="libx265", encoding=options)
    _, packets = read(original)
    assert packets[0].coding.codec == "hevc"
    assert len(decode(stored(tmp_path / "copy.mp4", packets))) == 30


def test_every_key_frame_can_begin_a_file(tmp_path: Path) -> None:
    original = clips.count(tmp_path / "clip.mp4", 50, encoding={"g": "10", "bf": "0"})
    _, packets = read(original)
    keys = [packet.number for packet in packets if packet.is_keyframe]
    assert keys == [1, 11, 21, 31, 41]
    for key in keys:
        assert len(decode(stored(tmp_path / f"from{key}.mp4", packets[key - 1 :]))) == 51 - key


@pytest.mark.parametrize(("codec", "kinds"), [("libx264", (7, 8)), ("libx265", (32, 33, 34))])
def test_a_key_frame_that_lost_a_parameter_set_can_begin_a_file(
    tmp_path: Path, codec: str, kinds: tuple[int, ...]
) -> None:
    encoding = {"g": "10", "bf": "0"}
    if codec == "libx265":
        encoding = {"x265-params": "log-level=none:keyint=10:bframes=0:repeat-headers=1"}
    suffix = {"libx264": "h264", "libx265": "hevc"}[codec]
    clip = clips.count(tmp_path / f"a.{suffix}", 50, (64, 64), codec=codec, encoding=encoding)
    units = clip.read_bytes().split(START_CODE)
    for count, kind in enumerate(kinds, 1):  # each is lost by another key frame
        sets = [
            number
            for number, unit in enumerate(units)
            if unit and (unit[0] & 0x1F if codec == "libx264" else unit[0] >> 1 & 0x3F) == kind
        ]
        assert len(sets) >= 5
        del units[sets[count]]
    clip.write_bytes(START_CODE.join(units))
    _, packets = read(clip)
    assert len({packet.coding for packet in packets}) == 1
    keys = [packet.number for packet in packets if packet.is_keyframe]
    assert keys == [1, 11, 21, 31, 41]
    for key in keys:
        assert len(decode(stored(tmp_path / f"from{key}.mp4", packets[key - 1 :]))) == 51 - key


def test_a_change_of_size_is_another_coding(tmp_path: Path) -> None:
    small = clips.count(tmp_path / "a.ts", 10)
    large = clips.count(tmp_path / "b.ts", 10, (96, 128))
    joined = clips.joined(tmp_path / "both.ts", small, large)
    _, packets = read(joined)
    codings = {packet.coding: packet.number for packet in reversed(packets)}
    assert [(coding.width, coding.height) for coding in reversed(codings)] == [(64, 48), (128, 96)]
    assert len({coding.parameters for coding in codings}) == 2
    second = packets[min(codings[coding] for coding in codings if coding.width == 128) - 1]
    assert second.is_keyframe


def test_a_damaged_packet_costs_the_copy_up_to_the_next_key_frame_and_no_more(
    tmp_path: Path,
) -> None:
    original = clips.noise(
        tmp_path / "clip.mkv", 40, encoding={"g": "10", "bf": "0", "sc_threshold": "0"}
    )
    with av.open(str(original)) as container:
        damaged = bytes(list(container.demux(video=0))[13])
    content = original.read_bytes()
    original.write_bytes(content.replace(damaged, b"\xff" * len(damaged)))
    source = video_source(original, packets=True)
    pictures = list(source)
    assert source.damaged == 1
    source.close()
    kept = [packet for picture in pictures for packet in picture.packets]
    assert len(kept) == 40 - 7
    assert kept[13].is_keyframe


def test_damaged_parameters_are_no_source_to_copy(tmp_path: Path) -> None:
    original = clips.count(tmp_path / "clip.mp4", 5)
    content = bytearray(original.read_bytes())
    content[content.index(b"avcC") + 4 + 6] = 0xFF  # the upper half of the first set's length
    original.write_bytes(content)
    with pytest.raises(SourceError, match=r"record\.video: annotated"):
        video_source(original, packets=True)
    video_source(original).close()


def test_packets_that_are_not_asked_for_are_not_kept(tmp_path: Path) -> None:
    source = video_source(clips.count(tmp_path / "a.mp4", 5))
    assert all(not picture.packets for picture in source)
    source.close()


def test_what_can_not_be_decoded_is_kept_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("centernetd.capture.packets._MAX_HELD", 8)
    path = clips.count(tmp_path / "a.mp4", 45, encoding={"g": "10", "bf": "0"})
    source = video_source(path, packets=True)
    assert source._copier is not None
    for packet in source._container.demux(source._video):
        source._copier.add(packet)
    left = source._copier.take()
    source.close()
    assert len(left) == 5
    assert left[0].is_keyframe


CODING = Coding("h264", 64, 48)


def source_packet(pts: int | None, dts: int | None) -> SourcePacket:
    return SourcePacket(b"x", pts, dts, 40, TIME_BASE, is_keyframe=True, coding=CODING)


def placed(*pictures: tuple[int | None, int, list[tuple[int | None, int | None]]]) -> list[Packet]:
    """Copy pictures given as own pts, pts on the timeline, and (pts, dts) of their packets."""
    timeline = PacketTimeline()
    packets: list[Packet] = []
    for own, pts, brought in pictures:
        picture = Picture(
            HostImage(image()), own, TIME_BASE, 0.0, [source_packet(*times) for times in brought]
        )
        packets += timeline.place(picture, pts, Fraction(1, 90_000), 1.5)
    assert timeline.count == len(packets)
    return packets


FRACTIONS = st.sampled_from([Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000)])


@given(
    own=st.integers(-(2**33), 2**33),
    away=st.integers(-9000, 9000),
    pts=st.integers(0, 2**33),
    bases=st.tuples(FRACTIONS, FRACTIONS, FRACTIONS),
)
def test_a_packet_keeps_its_exact_distance_to_its_picture(
    own: int, away: int, pts: int, bases: tuple[Fraction, Fraction, Fraction]
) -> None:
    unit, own_unit, base = bases
    time = round(own * own_unit / unit) + away
    sent = SourcePacket(b"x", time, time, away, unit, True, Coding("h264", 64, 48))
    picture = Picture(HostImage(image()), own, own_unit, 0.0, packets=[sent])
    (placed,) = PacketTimeline().place(picture, pts, base, 0.0)
    distance = time * unit - own * own_unit
    if abs(distance) <= 10:
        assert placed.pts == pts + round(distance / base)
    assert placed.duration == round(away * unit / base)


def test_packets_move_with_their_picture() -> None:
    packets = placed((1000, 0, [(1000, 1000)]), (1040, 3600, [(1120, 1040)]))
    assert [(packet.pts, packet.dts) for packet in packets] == [(0, 0), (10_800, 3600)]
    assert packets[0].duration == 3600
    assert packets[0].wall_time == 1.5


def test_times_that_are_missing_or_wrong_still_increase() -> None:
    packets = placed(
        (None, 500, [(7, 7)]),  # a source without times of its own
        (None, 400, [(8, 8)]),
        (1000, 600, [(1000, None), (None, 1000), (900, 900)]),
    )
    dts = [packet.dts for packet in packets]
    assert dts == sorted(set(dts))
    assert dts[0] == 500
    assert all(packet.pts >= packet.dts for packet in packets)


def test_a_packet_has_its_place_in_seconds() -> None:
    (packet,) = placed((0, 45_000, [(0, 0)]))
    assert packet.time == 0.5
    assert replace(packet, pts=90_000).time == 1.0

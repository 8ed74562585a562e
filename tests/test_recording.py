"""Which packets of a stream are kept, and how its frames are counted."""

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centernetd.capture.packets import PacketTimeline
from centernetd.config import RecordConfig
from centernetd.errors import SinkError
from centernetd.flow import Coding, Packet
from centernetd.sink.file import OutputFile
from centernetd.sink.recording import Accounts, PreRoll, Recording
from centernetd.sink.stage import Outcome
from tests import clips
from tests.capture_rig import video_source
from tests.sinks import NOON, coded, decode, sink_context

STEP = 0.2  # seconds between frames; a key frame each second
FRAMES = 100
PACKETS = list(coded(FRAMES, 200))
GROUPS = "keyint=12:min-keyint=12:scenecut=0:b-adapt=0:bframes=3:log-level=0"  # for x264 and x265


def open_recording(root: Path, **config: Any) -> Recording:
    config = {"path": "gate.mp4", "segment": None, "when": "detection", **config}
    return Recording(sink_context(root, record=RecordConfig(**config)))


def record(recording: Recording, found: set[int], lag: int = 0) -> Outcome:
    """Bring all packets, and `lag` packets later the verdict on each frame; returns the book."""
    total = [0, 0, 0]
    for number in range(FRAMES + lag):
        if number < FRAMES:
            recording.add(PACKETS[number])
        if number >= lag:
            frame = number - lag
            recording.judge(PACKETS[frame].time, frame + 1, found=frame in found)
        total = [a + b for a, b in zip(total, recording.settle(), strict=True)]
    recording.close()
    return Outcome(*(a + b for a, b in zip(total, recording.settle(), strict=True)))


def kept(root: Path) -> list[int]:
    """The numbers of the frames in all files, recognized by the ends of their packets."""
    found = []
    for path in root.glob("gate*.mp4"):
        content = path.read_bytes()
        numbers = [packet.number - 1 for packet in PACKETS if packet.data[-100:] in content]
        assert len(decode(path)) == len(numbers)
        found += numbers
    return sorted(found)


def seconds(numbers: list[int]) -> tuple[float, float]:
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "with holes"
    return numbers[0] * STEP, numbers[-1] * STEP


@pytest.mark.parametrize("lag", [0, 1, 4, 9])
def test_what_is_around_a_detection_is_kept_whole_groups_of_it(tmp_path: Path, lag: int) -> None:
    recording = open_recording(tmp_path, before=2.0, after=3.0)
    book = record(recording, found={50}, lag=lag)
    start, end = seconds(kept(tmp_path))
    assert 7.0 <= start <= 8.0, "10 s less 2 s, from the key frame before on"
    assert 13.0 <= end < 13.0 + 1.0 + STEP, "10 s and 3 s, up to the next key frame"
    count = len(kept(tmp_path))
    assert book == Outcome(written=count, unwanted=FRAMES - count)


def test_every_frame_is_written_once_where_rolls_overlap(tmp_path: Path) -> None:
    recording = open_recording(tmp_path, before=5.0, after=1.0)
    book = record(recording, found={30, 40, 52})
    start, end = seconds(kept(tmp_path))
    assert start <= 1.0
    assert end >= 11.4
    assert book.written == len(set(kept(tmp_path))) == len(kept(tmp_path))


def test_each_run_is_a_file_that_is_complete_when_it_ends(tmp_path: Path) -> None:
    recording = open_recording(tmp_path, before=0.0, after=0.0)
    record(recording, found={10, 70})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate-1.mp4", "gate.mp4"]


def test_without_a_detection_there_is_no_file(tmp_path: Path) -> None:
    assert record(open_recording(tmp_path), found=set()) == Outcome(unwanted=FRAMES)
    assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(
    found=st.sets(st.integers(0, FRAMES - 1), max_size=4),
    lag=st.integers(0, 12),
    before=st.sampled_from([0.0, 0.5, 3.0]),
    after=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_the_outcomes_match_the_content_of_the_files(
    tmp_path_factory: pytest.TempPathFactory,
    found: set[int],
    lag: int,
    before: float,
    after: float,
) -> None:
    root = tmp_path_factory.mktemp("root")
    book = record(open_recording(root, before=before, after=after), found, lag)
    assert sum(book) == FRAMES
    numbers = kept(root)
    assert book.written == len(numbers) == len(set(numbers))
    for frame in found:
        frames_before, frames_after = (int(roll / STEP + 1e-6) for roll in (before, after))
        around = range(max(0, frame - frames_before), frame + frames_after + 1)
        assert set(around) & set(range(FRAMES)) <= set(numbers)


def test_a_gap_ends_the_file_and_is_counted(tmp_path: Path) -> None:
    recording = open_recording(tmp_path, when="always")
    packets = [packet for packet in PACKETS if packet.number not in (8, 9)]
    for packet in packets:
        recording.add(packet)
    for packet in packets:
        recording.judge(packet.time, packet.number, found=False)
    recording.close()
    lost = 3  # 8 and 9 are missing, 10 can't be decoded without them, 11 is a key frame
    assert recording.settle() == Outcome(written=FRAMES - lost, failed=lost - 2)
    assert [len(decode(path)) for path in sorted(tmp_path.iterdir())] == [90, 7]


def test_another_coding_begins_a_file(tmp_path: Path) -> None:
    recording = open_recording(tmp_path, when="always")
    other = Coding("h264", 64, 48, b"other parameters")
    for packet in PACKETS[:10]:
        recording.add(packet if packet.number <= 5 else replace(packet, coding=other))
    recording.close()
    assert [len(decode(path)) for path in sorted(tmp_path.iterdir())] == [5, 5]


def test_after_a_failure_only_a_key_frame_begins_a_file(tmp_path: Path) -> None:
    recording = open_recording(tmp_path, when="always", path="gate/a.mp4")
    (tmp_path / "gate").write_bytes(b"in the way")
    with pytest.raises(SinkError):
        recording.add(PACKETS[0])
    recording.abandon()
    (tmp_path / "gate").unlink()
    for packet in PACKETS[1:20]:
        recording.add(packet)
        recording.judge(packet.time, packet.number, found=False)
    recording.close()
    assert recording.settle() == Outcome(written=15, failed=4)
    assert len(decode(tmp_path / "gate/a.mp4")) == 15


@pytest.mark.parametrize("deed", ["delete", "move", "truncate", "cut", "replace"])
def test_a_file_that_others_take_away_is_given_up_within_a_second_and_another_begun(
    tmp_path: Path, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = open_recording(tmp_path, when="always")
    for packet in PACKETS[:10]:
        recording.add(packet)
    part, elsewhere = tmp_path / "gate.mp4.part", tmp_path / "elsewhere"
    if deed in ("delete", "replace"):
        part.unlink()
    if deed == "move":
        part.rename(elsewhere)
    if deed == "replace":
        part.write_bytes(b"another's")
    if deed in ("truncate", "cut"):
        os.truncate(part, 0 if deed == "truncate" else 5000)
    monkeypatch.setattr(OutputFile.sync, "__defaults__", (0.0,))
    with pytest.raises(SinkError, match=r"gate.mp4.part was deleted, moved or cut by others"):
        recording.add(PACKETS[10])
    recording.abandon()
    for packet in PACKETS[15:25]:
        recording.add(packet)
    recording.close()
    if deed == "replace":
        assert part.read_bytes() == b"another's"
    name = "gate.mp4" if deed in ("delete", "move") else "gate-1.mp4"
    assert len(decode(tmp_path / name)) == 10


def test_the_ring_is_bounded_by_its_bytes() -> None:
    group = sum(len(packet.data) for packet in PACKETS[:5])
    ring = PreRoll(largest=group * 3)
    gone = [ring.add(packet) for packet in PACKETS]
    assert max(gone) >= 80
    left = ring.release()
    assert sum(len(packet.data) for packet in left) <= group * 3
    assert left[0].is_keyframe
    assert [packet.number for packet in left] == list(range(max(gone) + 1, FRAMES + 1))


def test_a_group_that_is_too_large_by_itself_is_dropped_up_to_the_next_key_frame() -> None:
    key, other = PACKETS[0], replace(PACKETS[1], is_keyframe=False)
    ring = PreRoll(largest=len(key.data) + 2 * len(other.data))
    gone = [ring.add(key)]
    gone += [ring.add(replace(other, number=number)) for number in range(2, 100)]
    assert gone == [0, 0, 0, *range(4, 100)]
    assert ring.release() == []
    ring.add(replace(key, number=100))
    assert [packet.number for packet in ring.release()] == [100]


def test_a_frame_shares_the_outcome_of_its_packet_whichever_comes_first() -> None:
    accounts = Accounts()
    accounts.owe(1)
    accounts.decide(3, "unwanted")
    accounts.decide(5, "written")
    accounts.decide(4, "failed")  # decided already
    for number in (2, 3, 4, 5, 5, 6):
        accounts.owe(number)
    assert accounts.settle() == Outcome(written=3, unwanted=3)
    assert accounts.settle() == Outcome()
    accounts.decide(6, "failed")
    assert accounts.settle() == Outcome(failed=1)


def numbers_in(path: Path) -> list[int]:
    images = (np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in decode(path))
    return [clips.number_of(image) for image in images]


def of_an_open_group(root: Path, codec: str, encoding: dict[str, str]) -> list[Packet]:
    """The packets of 40 numbered pictures, with B-frames across each key frame; NOON on."""
    clip = clips.count(root / "clip.mkv", 40, codec=codec, encoding=encoding)
    source = video_source(clip, packets=True)
    timeline, time_base = PacketTimeline(), source.info.time_base
    packets = [
        packet
        for picture in source
        for packet in timeline.place(picture, picture.pts or 0, time_base, NOON)
    ]
    source.close()
    return [replace(packet, wall_time=NOON + 2.5 * packet.time) for packet in packets]


@pytest.mark.parametrize("open_gop", [True, False])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_no_picture_is_missing_between_two_files(
    tmp_path: Path, codec: str, *, open_gop: bool
) -> None:
    name = {"libx264": "x264-params", "libx265": "x265-params"}[codec]
    packets = of_an_open_group(tmp_path, codec, {name: f"open-gop={open_gop:d}:{GROUPS}"})
    led = [later for key, later in pairwise(packets) if key.is_keyframe and later.pts < key.pts]
    assert bool(led) == open_gop
    recording = open_recording(tmp_path, when="always", segment=1, path="gate/%Y%m%dT%H%M%S.mp4")
    for packet in packets:
        recording.add(packet)
        recording.judge(packet.time, packet.number, found=False)
    recording.close()
    assert recording.settle() == Outcome(written=40)
    files = sorted((tmp_path / "gate").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 4
    shown: list[int] = []
    for path in files:
        numbers = numbers_in(path)
        begun = shown[-1:] if open_gop and shown else []
        assert numbers[: len(begun)] == begun, "the key frame"
        shown += numbers[len(begun) :]
    assert shown == [number % 25 for number in range(40)]


def test_pictures_up_to_the_end_of_the_post_roll_are_kept_in_an_open_group(tmp_path: Path) -> None:
    packets = of_an_open_group(tmp_path, "libx264", {"x264-params": f"open-gop=1:{GROUPS}"})
    recording = open_recording(tmp_path, before=0.0, after=0.4)
    for packet in packets:
        recording.add(packet)
        recording.judge(packet.time, packet.number, found=packet.number == 1)
    recording.close()
    numbers = numbers_in(tmp_path / "gate.mp4")
    assert numbers[:11] == list(range(11)), "10 is shown after 0.4 s, before the key frame 12"


def test_a_key_frame_that_waits_is_followed_by_one_of_another_coding(tmp_path: Path) -> None:
    recording = open_recording(tmp_path, when="always", segment=60)
    waits = replace(PACKETS[5], wall_time=NOON + 60, dts=PACKETS[5].dts - 1)
    other = Coding("h264", 64, 48, b"other parameters")
    for packet in (*PACKETS[:5], waits, replace(PACKETS[10], number=7, coding=other)):
        recording.add(packet)
        recording.judge(packet.time, packet.number, found=False)
    recording.close()
    assert recording.settle() == Outcome(written=7)
    assert sorted(len(decode(path)) for path in tmp_path.iterdir()) == [1, 1, 5]

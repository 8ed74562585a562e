"""Fragmented MP4: what is counted is in the file, whatever happens next."""

import gc
from dataclasses import replace
from pathlib import Path

import pytest

from centernetd.errors import SinkError
from centernetd.flow import Coding
from centernetd.sink.file import part_of
from centernetd.sink.muxer import FragmentedMp4
from tests.sinks import coded, decode, file_size_limit

(FIRST,) = coded(1)


def begin(path: Path) -> FragmentedMp4:
    return FragmentedMp4(path, FIRST)


def write_until_it_fails(file: FragmentedMp4) -> int:
    try:
        for packet in coded(1000):
            file.write(packet)
    except SinkError:
        return file.safe
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("step", [1, 7, 40, 100, 300, 2000])
def test_every_frame_counted_is_in_the_file_at_that_moment(tmp_path: Path, step: int) -> None:
    packets = list(coded(60, step, start=5000))
    file = FragmentedMp4(tmp_path / "gate.mp4", packets[0])
    counts = set()
    for packet in packets:
        file.write(packet)
        counts.add(file.safe)
        killed = part_of(file.path).read_bytes()
        assert len(killed) == file.size
        assert len(decode(killed) if killed else []) == file.safe
    assert (60 - file.safe) * step <= 250 + 2 * step, "more is held back than a fragment"
    file.close()
    assert file.safe == len(decode(file.path)) == 60
    assert step == 1 or len(counts) > 1


def test_the_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    file = begin(tmp_path / "gate.mp4")
    file.write(FIRST)
    assert [path.name for path in tmp_path.iterdir()] == ["gate.mp4.part"]
    file.close()
    assert file.safe == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gate.mp4"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "gate.mp4"
    path.write_bytes(b"old")
    files = [begin(path), begin(path)]
    (tmp_path / "gate-2.mp4").write_bytes(b"came meanwhile")
    for file in files:
        file.write(FIRST)
        file.close()
    assert [file.path.name for file in files] == ["gate-1.mp4", "gate-3.mp4"]
    assert path.read_bytes() == b"old"
    assert (tmp_path / "gate-2.mp4").read_bytes() == b"came meanwhile"


def test_a_name_that_another_takes_at_that_moment_is_not_taken_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter([tmp_path / "gate.mp4", tmp_path / "gate-1.mp4"])
    part_of(tmp_path / "gate.mp4").write_bytes(b"another's")
    monkeypatch.setattr("centernetd.sink.muxer.unused", lambda _: next(names))
    file = begin(tmp_path / "gate.mp4")
    assert file.path == tmp_path / "gate-1.mp4"
    assert part_of(tmp_path / "gate.mp4").read_bytes() == b"another's"
    file.abandon()


def test_a_full_disk_leaves_what_was_counted_and_nothing_torn(tmp_path: Path) -> None:
    file = begin(tmp_path / "gate.mp4")
    with file_size_limit(200_000):
        counted = write_until_it_fails(file)
        assert file.abandon()
        assert file.abandon()
    assert counted > 10
    assert file.path.name == "gate.mp4"
    assert len(decode(file.path)) == counted
    assert file.path.stat().st_size < 200_000, "the torn fragment was not cut off"


def test_a_disk_that_fills_at_the_end_fails_the_close(tmp_path: Path) -> None:
    file = begin(tmp_path / "gate.mp4")
    for packet in coded(11):
        file.write(packet)
    counted = file.safe
    with file_size_limit(file.size + 10), pytest.raises(SinkError, match="allows no larger file"):
        file.close()
    assert file.abandon()
    assert 0 < len(decode(file.path)) == counted < 11


def test_a_file_without_a_frame_is_not_left_behind(tmp_path: Path) -> None:
    file = begin(tmp_path / "gate.mp4")
    with file_size_limit(100):
        assert write_until_it_fails(file) == 0
        assert not file.abandon()
    assert not list(tmp_path.iterdir())


def test_a_codec_that_mp4_does_not_carry_is_refused_in_one_sentence(tmp_path: Path) -> None:
    first = replace(FIRST, coding=Coding("mjpeg", 64, 48))
    with pytest.raises(SinkError, match=r"mjpeg video can't be copied .* record.video: annotated"):
        FragmentedMp4(tmp_path / "gate.mp4", first)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_a_sink_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file or directory"):
        begin(tmp_path / "none" / "gate.mp4")


def test_failing_and_finishing_leak_neither_descriptors_nor_threads(tmp_path: Path) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        status = Path("/proc/self/status").read_text()
        threads = int(status.split("Threads:")[1].split()[0])
        return len(list(Path("/proc/self/fd").iterdir())), threads

    begin(tmp_path / "first.mp4").close()
    before = held()
    for number in range(5):
        file = begin(tmp_path / f"{number}.mp4")
        with file_size_limit(30_000):
            write_until_it_fails(file)
            file.abandon()
        begin(tmp_path / f"{number}.mp4").close()
    assert held() == before

"""What a kill left behind is repaired at the start, and nothing else is touched."""

import os
import struct
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from centernetd.config import RecordConfig, StreamConfig, expand
from centernetd.config.secret import SourceUri
from centernetd.config.sections import EventsConfig
from centernetd.sink.file import part_of
from centernetd.sink.muxer import FragmentedMp4
from centernetd.sink.outputs import outputs_of
from centernetd.sink.recovery import final_name, recover, recover_recording, whole_fragments
from centernetd.sink.segments import FROM_CAMERA, FROM_FILE
from tests.sinks import NOON, coded, decode

OUTPUTS = outputs_of(
    [
        StreamConfig("gate", SourceUri("rtsp://192.0.2.1/")),
        StreamConfig(
            "clip",
            SourceUri("clip.mp4"),
            record=RecordConfig(path="{stream}.mp4"),
            events=EventsConfig(path="{stream}.jsonl"),
        ),
    ],
    keep_for=None,
)
GATE, CLIP = "gate/2023-11-14/22-00-00.mp4", "clip.mp4"
PACKETS = list(coded(40))


def torn(path: Path, mark: str = FROM_CAMERA) -> Path:
    """Begin a recording, and leave it as a kill does; returns its `*.part`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = FragmentedMp4(path, PACKETS[0], mark)
    for packet in PACKETS:
        file.write(packet)
    content = file.part.read_bytes()
    file.close()
    part = part_of(path)
    part.write_bytes(content)
    path.unlink()
    os.utime(part, (NOON, NOON))
    return part


def listed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(("name", "mark"), [(GATE, FROM_CAMERA), (CLIP, FROM_FILE)])
def test_cut_anywhere_it_keeps_every_whole_fragment(tmp_path: Path, name: str, mark: str) -> None:
    content = torn(tmp_path / name, mark).read_bytes()
    ends = [end for end in range(len(content)) if content[end + 4 : end + 8] == b"moof"][1:]
    frames = {end: len(decode(content[:end])) for end in ends}
    step = len(content) // 150
    for length in sorted({*range(ends[0] - 2 * step, len(content), step), *ends, ends[0] - 1}):
        part = part_of(tmp_path / name)
        part.write_bytes(content[:length])
        os.utime(part, (NOON, NOON))
        whole = max((end for end in ends if end <= length), default=0)
        assert recover(tmp_path, OUTPUTS) == 1
        assert listed(tmp_path) == ([name] if whole else [])
        if not whole:
            continue
        path = tmp_path / name
        assert path.stat().st_mtime == NOON
        assert len(path.read_bytes()) == whole
        assert len(decode(path)) == frames[whole]
        path.unlink()


def test_a_file_without_a_picture_is_removed(tmp_path: Path) -> None:
    part = torn(tmp_path / GATE)
    for content in (b"", part.read_bytes()[:500]):
        part.write_bytes(content)
        assert recover(tmp_path, OUTPUTS) == 1
        assert listed(tmp_path) == []


def test_a_name_that_is_taken_is_not_taken_again(tmp_path: Path) -> None:
    torn(tmp_path / GATE)
    (tmp_path / GATE).write_bytes(b"complete")
    assert recover(tmp_path, OUTPUTS) == 1
    assert (tmp_path / GATE).read_bytes() == b"complete"
    assert len(decode((tmp_path / GATE).with_stem("22-00-00-1"))) > 30


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    part = torn(tmp_path / GATE)
    ours = part.read_bytes()
    part.unlink()
    others = {
        "gate/2023-11-14/other.mp4.part": ours,  # a name that no stream writes
        "gate/2023-11-14/22-00-00.mkv.part": ours,
        "deep/gate/2023-11-14/22-00-00.mp4.part": ours,
        "GATE/2023-11-14/22-00-00.mp4.part": ours,
        "gate/2023-11-14/22-00-01.mp4.part": ours.replace(FROM_CAMERA.encode(), b"x" * 22),
        "gate/2023-11-14/22-00-02.mp4.part": b"a download by somebody else" * 1000,
        "gate/2023-11-14-22.jsonl": b"torn, and not ours",
        "gate/2023-11-14/22-00-03.mp4": ours[:-5],
    }
    for name, content in others.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "gate/2023-11-14/22-00-04.mp4.part").symlink_to(tmp_path / next(iter(others)))
    assert recover(tmp_path, OUTPUTS) == 0
    assert {name: (tmp_path / name).read_bytes() for name in others} == others


def test_what_is_being_written_is_not_touched(tmp_path: Path) -> None:
    part = torn(tmp_path / GATE)
    assert recover(tmp_path, OUTPUTS, writing=[part]) == 0
    assert listed(tmp_path) == [f"{GATE}.part"]


@pytest.mark.parametrize(
    ("name", "made_from"), [("gate/2023-11-14-22.jsonl", ""), ("clip.jsonl", '"from": "file", ')]
)
@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_a_torn_line_of_events_is_cut_off(
    tmp_path: Path, name: str, made_from: str, size: int
) -> None:
    line = f'{{"stream": "gate", {made_from}"frame": 1}}\n'.encode()
    whole = line * 10
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole + line[:-9] + b" " * size)
    os.utime(path, (NOON, NOON))
    assert recover(tmp_path, OUTPUTS) == 1
    assert path.read_bytes() == whole
    assert path.stat().st_mtime == NOON
    assert recover(tmp_path, OUTPUTS) == 0


@pytest.mark.parametrize("template", ["events/{stream}.jsonl", "%Y-%m-%d/{stream}.jsonl"])
def test_the_events_of_every_stream_are_looked_into(tmp_path: Path, template: str) -> None:
    events = EventsConfig(path=template)
    source = SourceUri("rtsp://192.0.2.1/")
    streams = [StreamConfig(name, source, events=events) for name in ("a", "b", "c")]
    paths = [tmp_path / expand(template, s.name, datetime(2023, 11, 14)) for s in streams]
    for age, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'{"stream": "gate", "frame": 1}\n{"str')
        os.utime(path, (NOON - age * 60, NOON - age * 60))
    assert recover(tmp_path, outputs_of(streams, None)) == 3
    assert all(path.read_bytes().endswith(b"\n") for path in paths)


def test_events_not_written_at_the_end_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    for hour in (20, 21, 22):
        path = tmp_path / f"gate/2023-11-14-{hour}.jsonl"
        path.write_bytes(b'{"stream": "gate", "frame": 1}\n{"str')
        os.utime(path, (NOON + hour * 3600, NOON + hour * 3600))
    assert recover(tmp_path, OUTPUTS) == 1
    assert (tmp_path / "gate/2023-11-14-22.jsonl").read_bytes().endswith(b"\n")


def test_a_file_that_can_not_be_repaired_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(tmp_path / GATE)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert recover(tmp_path, OUTPUTS) == 0
    assert "22-00-00.mp4.part was cut off and can't be repaired: Read-only file" in caplog.text


def box(kind: bytes, size: int = 8, *, long: bool = False) -> bytes:
    """Return a box of ISO/IEC 14496-12 of the given size, which is stored in 32 bits or in 64."""
    head = struct.pack(">I4sQ", 1, kind, size) if long else struct.pack(">I4s", size, kind)
    return head + bytes(size - len(head))


HEAD = box(b"ftyp", 16) + box(b"moov", 40)
FRAGMENT = box(b"moof", 24) + box(b"mdat", 30)


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (HEAD, 0),
        (HEAD + FRAGMENT, 110),
        (HEAD + FRAGMENT + FRAGMENT[:-1], 110),
        (HEAD + FRAGMENT + box(b"moof", 24), 110),
        (HEAD + FRAGMENT * 2 + bytes(7), 164),
        (HEAD + box(b"mdat"), 64),
        (HEAD + box(b"mdat", 16, long=True), 72),
        (HEAD + box(b"mdat", 24, long=True)[:-1], 0),
        (HEAD + struct.pack(">I4s", 1, b"mdat"), 0),  # the size is cut off
        (HEAD + box(b"mdat") + struct.pack(">I4s", 7, b"mdat") + box(b"mdat"), 64),
        (HEAD + box(b"mdat") + struct.pack(">I4s", 0, b"mdat"), 64),
        (box(b"free", 16) + FRAGMENT, 0),
        (FRAGMENT, 0),
        (b"", 0),
        (bytes(100), 0),
        (b"\xff" * 64, 0),
        (HEAD + FRAGMENT + box(b"ftyp", 16) + FRAGMENT, 180),
    ],
)
def test_where_the_last_whole_fragment_ends(content: bytes, whole: int) -> None:
    assert whole_fragments(BytesIO(content), len(content)) == whole
    assert whole_fragments(BytesIO(content + FRAGMENT), len(content)) == whole, "what is beyond"


@pytest.mark.parametrize(
    ("content", "goes"),
    [
        (b"", True),
        (box(b"ftyp", 4095), True),
        (box(b"ftyp", 4096), False),
        (box(b"moov", 100), False),
        (HEAD + FRAGMENT, False),  # somebody else's
    ],
)
def test_only_a_header_of_ours_is_removed(tmp_path: Path, content: bytes, goes: bool) -> None:
    part = part_of(tmp_path / GATE)
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    assert recover(tmp_path, OUTPUTS) == goes
    assert part.exists() != goes
    assert recover(tmp_path, OUTPUTS) == 0


def test_a_file_that_disappeared_is_not_repaired(tmp_path: Path) -> None:
    assert not recover_recording(part_of(tmp_path / GATE), OUTPUTS)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_others_put_in_the_place_of_a_torn_file_is_not_touched(
    tmp_path: Path, kind: str
) -> None:
    elsewhere = torn(tmp_path / "elsewhere.mp4")
    content = elsewhere.read_bytes()
    part = part_of(tmp_path / GATE)
    part.parent.mkdir(parents=True)
    if kind == "link":
        part.symlink_to(elsewhere)
    else:
        os.mkfifo(part)
    with pytest.raises(OSError, match="not a regular file"):
        recover_recording(part, OUTPUTS)
    assert elsewhere.read_bytes() == content


def test_events_of_the_last_hour_are_looked_into_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    for age, hour in ((0, 1), (3599, 2), (3600, 3)):
        path = tmp_path / f"gate/2023-11-14-{hour:02}.jsonl"
        path.write_bytes(b'{"stream": "gate", "frame": 1}\n{"str')
        os.utime(path, (NOON - age, NOON - age))
    assert recover(tmp_path, OUTPUTS) == 2
    torn = sorted(p.name for p in tmp_path.rglob("*.jsonl") if p.read_bytes().endswith(b"tr"))
    assert torn == ["2023-11-14-03.jsonl"]


def test_events_that_are_being_written_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "gate/2023-11-14-22.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"stream": "gate", "frame": 1}\n{"str')
    assert recover(tmp_path, OUTPUTS, writing=[path]) == 0
    assert path.read_bytes().endswith(b"str")


def test_only_recordings_have_parts(tmp_path: Path) -> None:
    part = part_of(tmp_path / "gate/2023-11-14-22.jsonl")
    part.parent.mkdir()
    part.write_bytes(b"")
    assert recover(tmp_path, OUTPUTS) == 0
    assert part.exists()


def test_the_name_of_a_torn_file_is_not_taken_twice(tmp_path: Path) -> None:
    part = part_of(tmp_path / GATE)
    assert final_name(part) == tmp_path / GATE
    (tmp_path / GATE).parent.mkdir(parents=True)
    (tmp_path / GATE).symlink_to("nowhere")
    assert final_name(part) == (tmp_path / GATE).with_stem("22-00-00-1")


def test_a_folder_that_can_not_be_listed_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn(tmp_path / GATE)
    listing = os.scandir

    def refuse(path: Path) -> Any:
        if Path(path).name == "gate":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert recover(tmp_path, OUTPUTS) == 0
    assert caplog.messages == [f"{tmp_path / 'gate'} can't be read: Permission denied"]


def test_repairs_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = torn(tmp_path / GATE)
    recover(tmp_path, OUTPUTS)
    kept = (tmp_path / GATE).stat().st_size
    part.write_bytes(b"")
    recover(tmp_path, OUTPUTS)
    assert caplog.messages == [
        f"{tmp_path / GATE} was cut off: {kept} bytes of it are kept",
        f"{part} was cut off before its first picture: removed",
    ]


def test_a_repaired_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = torn(tmp_path / GATE)
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(part.exists()))
    recover(tmp_path, OUTPUTS)
    assert synced == [True]

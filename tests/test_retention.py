"""Retention: the oldest goes first, and only what a camera's recorder wrote."""

import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from centernetd.config import EventsConfig, RecordConfig, StorageConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.sink import retention as retention_module
from centernetd.sink.file import MAX_FILE_SIZE
from centernetd.sink.outputs import Output, outputs_of
from centernetd.sink.retention import AGE_INTERVAL, DRIFT, LEAP_LASTS, CautiousClock, Retention
from centernetd.sink.segments import FROM_CAMERA, FROM_FILE
from centernetd.sink.storage import Storage


def outputs(
    record: float | None = None, events: float | None = None, others: float | None = None
) -> tuple[Output, ...]:
    """The files of the streams gate and clip, and of others; how long each is kept."""
    streams = [stream("gate", record, events), stream("clip", record, events, "clip.mp4")]
    return outputs_of(streams, others)


def stream(
    name: str,
    record: float | None = None,
    events: float | None = None,
    source: str = "rtsp://192.0.2.1/",
    path: str = "{stream}/%Y-%m-%d/%H-%M-%S.mp4",
) -> StreamConfig:
    return StreamConfig(
        name,
        SourceUri(source),
        record=RecordConfig(keep_for=record, path=path),
        events=EventsConfig(keep_for=events),
    )


OUTPUTS = outputs()
NOW = 1_700_000_000.0
UNLIMITED = {"max_bytes": None, "min_free": 0}
VIDEO = b"\0\0\0\x20ftyp" + FROM_CAMERA.encode()
EVENT = b'{"stream": "gate", "frame": 1, "detections": []}\n'


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def put(root: Path, name: str, age: float = 0.0, size: int = 1000, head: bytes = VIDEO) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + bytes(size - len(head)))
    os.utime(path, (NOW - age, NOW - age))
    return path


def complete(storage: Storage, *paths: Path) -> None:
    for path in paths:
        storage.end(path, path)


def limited(**limits: Any) -> StorageConfig:
    return StorageConfig().model_copy(update={**UNLIMITED, **limits})


def video(hour: int, stream: str = "gate") -> str:
    return f"{stream}/2023-11-14/{hour:02}-00-00.mp4"


def kept(storage: Storage, *, now: float = NOW, of: Any = OUTPUTS, **limits: Any) -> list[str]:
    """Scan, apply limits (none given: none) once, and list what is left."""
    retention = Retention(storage, limited(**limits), of)
    retention.scan()
    retention.enforce(now)
    return listed(storage)


def listed(storage: Storage) -> list[str]:
    root = storage.root
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_by_age(storage: Storage) -> None:
    put(storage.root, video(1), age=3601)
    put(storage.root, video(2), age=3599)
    assert kept(storage, of=outputs(record=3600.0)) == [video(2)]


HOUR = 3600.0
FLAT = "{stream}.mp4"


def event_of(stream: str) -> bytes:
    return EVENT.replace(b"gate", stream.encode())


def test_each_kind_of_each_stream_has_its_own_age(storage: Storage) -> None:
    for age in (1, 2, 3, 4):
        for name in ("gate", "yard", "old"):
            put(storage.root, video(age, name), age=age * HOUR + 1)
            put(
                storage.root,
                f"{name}/2023-11-14-0{age}.jsonl",
                age=age * HOUR + 1,
                head=event_of(name),
            )
    streams = [stream("gate", record=HOUR, events=3 * HOUR), stream("yard", events=2 * HOUR)]
    assert kept(storage, of=outputs_of(streams, 4 * HOUR)) == [
        *("gate/2023-11-14-01.jsonl", "gate/2023-11-14-02.jsonl"),
        *("old/2023-11-14-01.jsonl", "old/2023-11-14-02.jsonl", "old/2023-11-14-03.jsonl"),
        *(video(age, "old") for age in (1, 2, 3)),
        "yard/2023-11-14-01.jsonl",
        *(video(age, "yard") for age in (1, 2, 3, 4)),
    ], "those of streams that are not configured are kept as long as the storage says"


def named(stream: str, mark: str = FROM_CAMERA) -> bytes:
    """The beginning of a recording that names its stream, and what follows in the file."""
    return b"\0\0\0\x20ftyp" + f"{mark}: {stream}".encode() + b"\0\0\0\x08free"


def test_a_name_that_could_be_of_two_streams_is_decided_by_the_content(storage: Storage) -> None:
    """The second file of gate may have the name of the first of gate-1."""
    streams = [stream("gate", HOUR, path=FLAT), stream("gate-1", 9 * HOUR, path=FLAT)]
    put(storage.root, "gate-1.mp4", age=2 * HOUR, head=named("gate-1"))
    put(storage.root, "gate-1-1.mp4", age=2 * HOUR, head=named("gate-1"))
    put(storage.root, "gate-2.mp4", age=2 * HOUR, head=named("gate"))
    put(storage.root, "gate-3.mp4", age=2 * HOUR, head=named("gate-3"))
    of = outputs_of(streams, 4 * HOUR)
    assert kept(storage, of=of) == ["gate-1-1.mp4", "gate-1.mp4", "gate-3.mp4"]
    later = NOW + 8 * HOUR
    assert kept(storage, of=of, now=later) == [], "gate-3 is no longer a stream"


def test_a_recording_that_names_no_stream_obeys_the_shortest_age_it_could_have(
    storage: Storage,
) -> None:
    streams = [stream("gate", HOUR, path=FLAT), stream("gate-1", 9 * HOUR, path=FLAT)]
    put(storage.root, "gate-1.mp4", age=2 * HOUR)
    put(storage.root, "gate-1-1.mp4", age=2 * HOUR)
    assert kept(storage, of=outputs_of(streams, None)) == ["gate-1-1.mp4"]


def test_what_was_made_from_a_file_goes_only_by_an_age_of_its_own(storage: Storage) -> None:
    put(storage.root, "clip.mp4", age=2 * HOUR, head=named("clip", FROM_FILE))
    line = b'{"stream": "clip", "from": "file", "frame": 1}\n'
    put(storage.root, "clip.jsonl", age=2 * HOUR, head=line)
    put(storage.root, "gone.mp4", age=2 * HOUR, head=named("gone", FROM_FILE))

    def of(keep_for: float | None) -> tuple[Output, ...]:
        return outputs_of([stream("clip", keep_for, source="clip.mp4", path=FLAT)], HOUR)

    assert len(kept(storage, of=of(None), max_bytes=0)) == 3
    assert storage.status.size == 0
    assert len(kept(storage, of=of(3 * HOUR), max_bytes=0)) == 3
    assert kept(storage, of=of(HOUR)) == ["clip.jsonl", "gone.mp4"]
    assert storage.status.size == 0


def test_a_stream_that_became_a_camera_does_not_age_what_was_made_from_its_file(
    storage: Storage,
) -> None:
    streams = [stream("gate", HOUR, path=FLAT), stream("clip", source="clip.mp4", path=FLAT)]
    put(storage.root, "gate.mp4", age=2 * HOUR, head=named("gate", FROM_FILE))
    put(storage.root, "gate-1.mp4", age=2 * HOUR, head=named("gate"))
    assert kept(storage, of=outputs_of(streams, HOUR)) == ["gate.mp4"]


def test_incomplete_recordings_age_but_make_no_room(storage: Storage) -> None:
    old, new = video(1) + ".part", video(2) + ".part"
    others = video(3) + ".part"
    put(storage.root, old, age=2 * HOUR)
    put(storage.root, new)
    put(storage.root, others, age=2 * HOUR, head=b"another's")
    assert kept(storage, max_bytes=0) == [old, new, others]
    assert storage.status.size == 0
    assert kept(storage, of=outputs(record=HOUR)) == [new, others]


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock; the last item counts."""
    readings = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: readings[-1])
    return readings


def test_a_file_from_the_future_is_kept_no_longer_than_others(
    storage: Storage, monotonic: list[float]
) -> None:
    """The clock was a year ahead when it was written, and has been set right."""
    put(storage.root, video(1), age=-365 * 24 * HOUR)
    retention = Retention(storage, limited(), outputs(record=9 * HOUR))
    retention.scan()
    for passed in (HOUR, 9 * HOUR):
        monotonic.append(1000.0 + passed)
        retention.scan()
        retention.enforce(NOW + passed)
        assert listed(storage) == [video(1)]
    monotonic.append(1000.0 + 9 * HOUR + 1)
    retention.scan()
    retention.enforce(NOW + 9 * HOUR + 1)
    assert listed(storage) == []


def test_events_that_are_continued_are_as_old_as_their_last_line(
    storage: Storage, monotonic: list[float]
) -> None:
    events = put(storage.root, "gate/2023-11-14-01.jsonl", head=EVENT)
    retention = Retention(storage, limited(), outputs(events=2 * HOUR))
    retention.scan()
    for hour in (1, 2, 3):
        monotonic.append(1000.0 + hour * HOUR)
        os.utime(events, (NOW + hour * HOUR, NOW + hour * HOUR))
        complete(storage, events)
        retention.enforce(NOW + hour * HOUR)
        assert events.exists()
    monotonic.append(1001.0 + 5 * HOUR)
    retention.enforce(NOW + 5 * HOUR + 1)
    assert not events.exists()


def test_files_that_are_too_old_are_looked_for_once_a_minute(
    storage: Storage, monotonic: list[float]
) -> None:
    retention = Retention(storage, limited(), outputs(record=HOUR))
    retention.scan()
    retention.enforce(NOW)
    path = put(storage.root, video(1), age=2 * HOUR)
    complete(storage, path)
    retention.enforce(NOW)
    assert path.exists()
    monotonic.append(1000.0 + AGE_INTERVAL)
    retention.enforce(NOW)
    assert not path.exists()


def test_what_is_too_old_and_can_not_be_deleted_waits_for_the_next_scan(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, monotonic: list[float]
) -> None:
    for hour in (1, 2, 3):
        put(storage.root, video(hour), age=2 * HOUR - hour)
    remove, tried = storage.remove, []

    def refuse(path: Path) -> bool:
        tried.append(path.name)
        if path.name.startswith("01"):
            raise PermissionError(1, "Operation not permitted", str(path))
        return remove(path)

    monkeypatch.setattr(storage, "remove", refuse)
    retention = Retention(storage, limited(), outputs(record=HOUR))
    retention.scan()
    with pytest.raises(PermissionError):
        retention.enforce(NOW)
    assert listed(storage) == [video(1)]
    assert retention.doubtful
    monotonic.append(1000.0 + AGE_INTERVAL)
    retention.enforce(NOW)
    assert len(tried) == 3
    retention.scan()
    with pytest.raises(PermissionError):
        retention.enforce(NOW)
    assert len(tried) == 4


def test_why_a_file_went_is_logged(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = put(storage.root, video(1), age=2 * HOUR)
    kept(storage, of=outputs(record=HOUR))
    assert caplog.messages == [f"deleted {path}, it was kept for 1h"]


def test_by_size_oldest_first_across_streams(storage: Storage) -> None:
    for hour, (stream, age) in enumerate([("a", 50), ("b", 40), ("a", 30), ("gone", 60)]):
        put(storage.root, video(hour, stream), age=age)
    put(storage.root, "b/2023-11-14-01.jsonl", age=45, head=EVENT)
    assert kept(storage, max_bytes=2999) == [video(2, "a"), video(1, "b")]
    assert storage.status.size == 2000
    assert storage.status.oldest == NOW - 40


def test_by_free_space(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for hour in range(5):
        put(storage.root, video(hour), age=50 - hour)
    leave(monkeypatch, lambda: 10_000 - 1000 * len(listed(storage)))
    assert kept(storage, min_free=7000) == [video(2), video(3), video(4)]
    assert storage.status.trouble is None
    assert storage.status.free == 7000


def leave(
    monkeypatch: pytest.MonkeyPatch,
    size: Callable[[], int] = lambda: 10**12,
    files: Callable[[], int] = lambda: 10**6,
    of_files: int = 10**7,
) -> None:
    """Have the disk report how much room is left on it, in blocks of 10 bytes and in files."""

    def statvfs(_: Path) -> SimpleNamespace:
        return SimpleNamespace(
            f_frsize=10, f_bsize=7, f_bavail=size() // 10, f_favail=files(), f_files=of_files
        )

    monkeypatch.setattr(os, "statvfs", statvfs)


@pytest.mark.parametrize(
    ("of_files", "spared"), [(10**7, 1000), (10_000, 1000), (9990, 999), (800, 80)]
)
def test_by_free_files(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, of_files: int, spared: int
) -> None:
    for hour in range(5):
        put(storage.root, video(hour), age=50 - hour)
    leave(monkeypatch, files=lambda: spared + 3 - len(listed(storage)), of_files=of_files)
    assert kept(storage) == [video(2), video(3), video(4)]
    assert storage.status.trouble is None


def test_a_disk_without_inodes_to_spare_is_reported(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage.root, "notes")
    leave(monkeypatch, files=lambda: 79, of_files=800)
    assert kept(storage) == ["notes"]
    assert storage.status.trouble is not None
    assert "room for hardly any more files (inodes)" in storage.status.trouble
    leave(monkeypatch, files=lambda: 80, of_files=800)
    kept(storage)
    assert storage.status.trouble is None


def test_a_disk_that_counts_no_files_has_room_for_any(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage.root, video(1))
    leave(monkeypatch, files=lambda: 0, of_files=0)
    assert kept(storage) == [video(1)]
    assert storage.status.trouble is None


@pytest.mark.parametrize(
    ("limits", "largest"),
    [
        ({}, 12_000 // 10),  # what is left, and what is taken already
        ({"min_free": 4000}, 8000 // 10),
        ({"max_bytes": 6000}, 6000 // 10),
        ({"max_bytes": 9000, "min_free": 4000}, 8000 // 10),
        ({"max_bytes": 10**12}, 12_000 // 10),
    ],
)
def test_a_recording_takes_its_share_of_the_room_and_no_more(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], largest: int
) -> None:
    assert storage.largest == MAX_FILE_SIZE
    put(storage.root, video(1), size=2000)
    leave(monkeypatch, size=lambda: 10_000)
    kept(storage, **limits)
    assert storage.largest == largest
    leave(monkeypatch)
    kept(storage)
    assert storage.largest == MAX_FILE_SIZE < 2**32


def test_a_disk_that_others_fill_is_reported_until_it_has_room_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage.root, "holiday/2023-11-14/01-00-00.mp4", head=b"another's")
    leave(monkeypatch, size=lambda: 10**9)
    assert kept(storage, min_free=2 * 10**9) == ["holiday/2023-11-14/01-00-00.mp4"]
    assert storage.status.trouble is not None
    assert "only 1.0 GB are free" in storage.status.trouble
    assert "storage.min_free (2.0 GB)" in storage.status.trouble
    leave(monkeypatch, size=lambda: 2 * 10**9)
    kept(storage, min_free=2 * 10**9)
    assert storage.status.trouble is None


def test_what_it_did_not_record_from_a_camera_is_never_deleted(storage: Storage) -> None:
    root = storage.root
    others = [
        put(root, video(1), head=b"\0\0\0\x20ftyp by somebody else"),
        put(root, video(2), head=b"\0\0\0\x20ftyp" + FROM_FILE.encode()),
        put(root, "clip.mp4"),  # a name that only files as sources make
        put(root, "gate/2023-11-14/notes.mp4"),
        put(root, "gate/2023-11-14/01-00-00.mkv"),
        put(root, "GATE/2023-11-14/01-00-00.mp4"),
        put(root, "gate/2023-11-14/sub/01-00-00.mp4"),
        put(root, "gate/2023-11-14-01.jsonl", head=b"notes"),
        put(
            root,
            "clip/2023-11-14-01.jsonl",
            head=b'{"stream": "clip", "from": "file", "frame": 1}\n',
        ),
        put(root, "gate/2023-11-14/01-00-00.mp4.part"),
    ]
    target = put(root, "elsewhere/video")
    (root / video(3)).symlink_to(target)
    put(root, video(4), age=10)
    put(root, "gate/2023-11-14/05-00-00-12.mp4", age=10)
    expected = sorted(str(path.relative_to(root)) for path in [*others, target, root / video(3)])
    assert kept(storage, max_bytes=0) == expected
    assert storage.status.size == 0


def test_what_is_being_written_is_never_deleted_but_counts(storage: Storage) -> None:
    part = put(storage.root, video(1) + ".part", age=99)
    events = put(storage.root, "gate/2023-11-14-01.jsonl", age=99, head=EVENT)
    for path in (part, events):
        storage.begin(path)
    assert kept(storage, of=outputs(record=1.0, events=1.0), max_bytes=0) == sorted(
        str(path.relative_to(storage.root)) for path in (part, events)
    )
    assert storage.status.size == 2000


def test_what_is_being_written_has_no_age(storage: Storage) -> None:
    """Not even where the name of another writer's file is the only sign of it."""
    put(storage.root, video(1) + ".part", age=99)
    events = put(storage.root, "gate/2023-11-14-01.jsonl", age=99, head=EVENT)
    storage.begin(events)
    retention = Retention(storage, limited(), OUTPUTS)
    retention.scan()
    retention.enforce(NOW)
    assert (retention.newest, storage.status.oldest) == (None, None)


def test_a_file_that_is_begun_while_it_is_looked_at_stays(storage: Storage) -> None:
    events = put(storage.root, "gate/2023-11-14-01.jsonl", head=EVENT)
    limits = limited(max_bytes=0)
    retention = Retention(storage, limits, OUTPUTS)
    retention.scan()
    storage.begin(events)
    retention.enforce(NOW)
    assert events.exists()
    storage.end(events, events)
    retention.enforce(NOW)
    assert not events.exists()


def test_the_index_follows_what_is_completed_without_looking_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = Retention(storage, limited(max_bytes=2500), OUTPUTS)
    retention.scan()
    monkeypatch.setattr(retention_module, "walk", lambda *_: pytest.fail("looked again"))
    for hour in range(6):
        path = put(storage.root, video(hour), age=50 - hour)
        storage.end(path, path)
        kept_by_files = put(storage.root, f"clip{hour}.mp4")
        storage.end(kept_by_files, kept_by_files)
        retention.enforce(NOW)
    assert [name for name in listed(storage) if "gate" in name] == [video(4), video(5)]
    assert storage.status.size == 2000


def test_a_file_that_is_completed_again_and_again_is_one_file(storage: Storage) -> None:
    for hour in range(3):
        put(storage.root, video(hour), age=50 - hour)
    events = put(storage.root, "gate/2023-11-14-01.jsonl", age=60, head=EVENT)
    retention = Retention(storage, limited(max_bytes=4000), OUTPUTS)
    retention.scan()
    for number in range(10):  # a disk that is full: opened, not written, closed
        os.utime(events, (NOW + number, NOW + number))
        storage.begin(events)
        retention.enforce(NOW)
        storage.end(events, events)
        retention.enforce(NOW)
    assert len(listed(storage)) == 4
    assert storage.status.size == 4000
    put(storage.root, video(3))
    complete(storage, storage.root / video(3))
    retention.enforce(NOW)
    assert listed(storage) == [
        "gate/2023-11-14-01.jsonl",
        *(video(hour) for hour in (1, 2, 3)),
    ], "its age is that of its last line"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "outside"])
def test_what_others_put_in_the_place_of_a_recording_is_neither_waited_for_nor_deleted(
    storage: Storage, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    path, outside = put(storage.root, video(1)), tmp_path_factory.mktemp("other")
    other = put(outside, "2023-11-14/01-00-00.mp4")
    put(storage.root, video(2, "door"))
    retention = Retention(storage, limited(max_bytes=0), OUTPUTS)
    retention.scan()
    path.unlink()
    if kind == "link":
        path.symlink_to(other)
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "folder":
        path.mkdir()
    if kind == "outside":
        path.parent.rmdir()
        path.parent.symlink_to(other.parent)
    retention.enforce(NOW)
    assert other.exists()
    assert os.path.lexists(path)
    assert not (storage.root / video(2, "door")).exists(), "the rest is deleted all the same"
    assert storage.status.size == 0


def test_what_is_exactly_at_a_limit_stays(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage.root, video(1), age=3600)
    put(storage.root, video(2), size=500)
    leave(monkeypatch, size=lambda: 7000)
    of = outputs(record=3600.0)
    assert kept(storage, of=of, max_bytes=1500, min_free=7000) == [video(1), video(2)]
    assert kept(storage, max_bytes=1499) == [video(2)]
    assert kept(storage, min_free=7001) == []


@pytest.mark.parametrize("loss", ["another's", "gone", "written"])
def test_what_was_not_deleted_made_no_room(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    first = put(storage.root, video(1), age=9, head=b"another's" if loss == "another's" else VIDEO)
    put(storage.root, video(2), age=8)
    put(storage.root, video(3), age=7)
    retention = Retention(storage, limited(min_free=3000), OUTPUTS)
    retention.scan()
    if loss == "gone":
        first.unlink()
    if loss == "written":
        storage.begin(first)
    leave(monkeypatch, size=lambda: 2000)
    retention.enforce(NOW)
    assert first.exists() == (loss != "gone")
    assert not (storage.root / video(2)).exists()
    assert (storage.root / video(3)).exists()
    assert storage.status.free == 3000
    assert storage.status.size == 1000 + 1000 * (loss == "written")
    assert storage.status.oldest == NOW - 7
    assert not retention.doubtful


def test_a_file_that_is_written_and_in_the_index_counts_once(storage: Storage) -> None:
    events = put(storage.root, "gate/2023-11-14-01.jsonl", head=EVENT)
    put(storage.root, video(1))
    retention = Retention(storage, limited(), OUTPUTS)
    retention.scan()
    storage.begin(events)
    storage.begin(storage.root / "gate/2023-11-14/02-00-00.mp4.part")  # not made yet
    put(storage.root, "gate/2023-11-14-01.jsonl", size=1500, head=EVENT)
    retention.enforce(NOW)
    assert storage.status.size == 2500


def test_the_newest_and_the_oldest_are_known(storage: Storage) -> None:
    retention = Retention(storage, limited(), OUTPUTS)
    retention.enforce(NOW)
    assert storage.status.size == 0
    assert retention.doubtful, "nothing has been looked at"
    retention.scan()
    retention.enforce(NOW)
    assert (retention.newest, storage.status.oldest, retention.doubtful) == (None, None, False)
    for hour, age in ((1, 5), (2, 9), (3, 7)):
        put(storage.root, video(hour), age=age)
    retention.scan()
    retention.enforce(NOW)
    assert (retention.newest, storage.status.oldest) == (NOW - 5, NOW - 9)


def test_a_file_that_is_completed_and_gone_or_unseen_is_not_in_the_index(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = Retention(storage, limited(), OUTPUTS)
    retention.scan()
    complete(storage, storage.root / video(1), put(storage.root, video(2)))
    retention.enforce(NOW)
    assert storage.status.size == 1000
    assert not retention.doubtful
    unseen, lstat = put(storage.root, video(3)), Path.lstat

    def refuse(path: Path) -> os.stat_result:
        if path == unseen:
            raise PermissionError(13, "Permission denied")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", refuse)
    complete(storage, unseen, put(storage.root, video(4)))
    retention.enforce(NOW)
    assert storage.status.size == 2000
    assert retention.doubtful


def test_what_is_deleted_is_logged(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = put(storage.root, video(1))
    put(storage.root, video(2), head=b"another's")
    kept(storage, max_bytes=0)
    assert caplog.messages == [f"deleted {path}, the oldest recording, for storage's limits"]


def test_a_scan_forgets_what_was_completed_before(storage: Storage) -> None:
    retention = Retention(storage, limited(), OUTPUTS)
    complete(storage, put(storage.root, video(1)))
    retention.scan()
    assert storage.take_completed() == []


def test_folders_that_become_empty_go_unless_they_are_in_use(storage: Storage) -> None:
    put(storage.root, "old/2023-11-13/01-00-00.mp4")
    put(storage.root, "gate/2023-11-13/01-00-00.mp4")
    storage.place("{stream}/%Y-%m-%d/%H-%M-%S.mp4", "gate", 1_699_835_000.0)
    assert kept(storage, max_bytes=0) == []
    folders = sorted(str(path.relative_to(storage.root)) for path in storage.root.rglob("*"))
    assert folders == ["gate", "gate/2023-11-13"]


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_that_can_not_be_deleted_do_not_hold_up_the_others(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage.root, video(0))
    for minute in range(59):
        put(storage.root, f"gate/2023-11-13/01-{minute:02}-00.mp4", age=100 + minute)
    remove = storage.remove

    def refuse(path: Path) -> bool:
        if "2023-11-13" in path.parts:
            raise PermissionError(1, "Operation not permitted", str(path))
        return remove(path)

    monkeypatch.setattr(storage, "remove", refuse)
    retention = Retention(storage, limited(max_bytes=0), OUTPUTS)
    retention.scan()
    with pytest.raises(PermissionError, match="01-58-00"):  # the oldest, which came first
        retention.enforce(NOW)
    assert video(0) not in listed(storage)
    assert len(listed(storage)) == 59
    assert retention.doubtful


def test_a_file_that_can_not_be_read_stays_in_the_index(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "MAX_FAILURES", 1)
    for hour in range(4):
        put(storage.root, video(hour), age=9 - hour)
    retention = Retention(storage, limited(max_bytes=1000), OUTPUTS)
    retention.scan()
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        retention.enforce(NOW)
    assert retention.doubtful
    retention.enforce(NOW)
    assert listed(storage) == [video(0)], "the one that was tried waits for the next scan"
    retention.scan()
    put(storage.root, video(4))
    complete(storage, storage.root / video(4))
    retention.enforce(NOW)
    assert listed(storage) == [video(4)]
    assert not retention.doubtful


def test_folders_that_can_not_be_listed_are_assumed_unchanged(storage: Storage) -> None:
    put(storage.root, video(1))
    retention = Retention(storage, limited(), OUTPUTS)
    retention.scan()
    with no_descriptors():
        retention.scan()
    assert retention.doubtful
    retention.enforce(NOW)
    assert storage.status.size == 1000
    retention.scan()
    assert not retention.doubtful


def test_having_nothing_to_delete_while_there_should_be_is_doubtful(storage: Storage) -> None:
    retention = Retention(storage, limited(max_bytes=0), OUTPUTS)
    retention.scan()
    events = put(storage.root, "gate/2023-11-14-01.jsonl", head=EVENT)
    storage.begin(events)
    retention.enforce(NOW)
    assert retention.doubtful


def test_a_file_that_may_not_be_deleted_does_not_stop_the_rest(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage.root, video(1), age=9)
    put(storage.root, video(2))
    remove = Storage.remove

    def refuse(storage: Storage, path: Path) -> bool:
        if path.name.startswith("01"):
            raise PermissionError(1, "Operation not permitted")
        return remove(storage, path)

    monkeypatch.setattr(Storage, "remove", refuse)
    retention = Retention(storage, limited(max_bytes=0), OUTPUTS)
    retention.scan()
    with pytest.raises(PermissionError):
        retention.enforce(NOW)
    retention.enforce(NOW)
    assert listed(storage) == [video(1)]
    assert storage.status.size == 1000, "it is still there"


def test_a_leap_forward_is_believed_when_it_has_lasted_for_an_hour() -> None:
    clock, day, hour = CautiousClock(NOW, 0.0), 86_400.0, LEAP_LASTS
    assert clock.read(NOW + 10, 10.0) == NOW + 10
    assert clock.read(NOW + day + 20, 20.0) == NOW + 20
    assert clock.read(NOW + day + hour + 19, hour + 19) == NOW + hour + 19
    assert clock.read(NOW + day + hour + 20, hour + 20) == NOW + day + hour + 20


@pytest.mark.parametrize("up", [0.0, 86_400.0], ids=["booted now", "booted a day ago"])
def test_a_start_long_after_the_newest_recording_is_a_leap(up: float) -> None:
    clock, day, hour = CautiousClock(NOW + 86_400.0, up, newest=NOW), 86_400.0, LEAP_LASTS
    assert clock.read(NOW + day + 10, up + 10) == NOW + 10
    assert clock.read(NOW + day + 10 + hour, up + 10 + hour) == NOW + day + 10 + hour
    clock = CautiousClock(NOW - day, up, newest=NOW)
    now = clock.read(NOW - day + 10, up + 10)
    assert now == NOW - day + 10, "what comes from the future is wrong"


def test_a_leap_back_and_a_drift_are_accepted_immediately() -> None:
    clock, day = CautiousClock(NOW, 0.0), 86_400.0
    assert clock.read(NOW - day, 10.0) == NOW - day
    assert clock.read(NOW - day + 10 + DRIFT, 20.0) == NOW - day + 10 + DRIFT
    assert clock.read(NOW, 30.0) < NOW - day + 100
    assert clock.read(NOW - day, 40.0) == NOW - day, "the leap didn't last"


def test_before_the_first_scan_only_what_is_completed_counts(storage: Storage) -> None:
    put(storage.root, video(1), age=50)
    retention = Retention(storage, limited(), OUTPUTS)
    assert retention.doubtful, "a scan is wanted"
    assert retention.newest is None
    retention.enforce(NOW)
    assert storage.status.size == 0
    completed = put(storage.root, video(2), age=40)
    storage.end(completed, completed)
    retention.enforce(NOW)
    assert storage.status.size == 1000
    assert retention.newest == NOW - 40


def test_what_others_deleted_is_forgotten_by_the_next_scan(storage: Storage) -> None:
    gone = put(storage.root, video(1), age=50)
    put(storage.root, video(2), age=40)
    retention = Retention(storage, limited(), OUTPUTS)
    retention.scan()
    gone.unlink()
    retention.scan()
    retention.enforce(NOW)
    assert (storage.status.size, storage.status.oldest) == (1000, NOW - 40)

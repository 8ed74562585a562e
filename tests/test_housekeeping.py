"""The storage root over a run: claimed, kept, lost and found again."""

import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from centernetd.config import RecordConfig, StorageConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.config.template import LOCK_NAME
from centernetd.errors import SinkError, StartupError, StoppedError
from centernetd.sink import housekeeping as housekeeping_module
from centernetd.sink import outputs, retention
from centernetd.sink.housekeeping import HUNG_AFTER, Housekeeping, is_mounted
from centernetd.sink.lockfile import published_in
from centernetd.sink.retention import LEAP_LASTS, Retention
from centernetd.sink.segments import FROM_CAMERA
from centernetd.sink.storage import Storage
from tests.fakes import wait_until
from tests.sinks import NOON, decode, tear

STREAMS = [StreamConfig("gate", SourceUri("rtsp://192.0.2.1/"))]
NAME = "gate/2023-11-14/22-00-00.mp4"
DAY = 86_400.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the root is mounted; the last item counts."""
    states = [True]
    monkeypatch.setattr(housekeeping_module, "is_mounted", lambda _: states[-1])
    return states


def keep_house(
    root: Path, streams: Sequence[StreamConfig] = STREAMS, **limits: Any
) -> tuple[Storage, Housekeeping]:
    storage = Storage(root)
    config = StorageConfig().model_copy(update={"min_free": 0, **limits})
    return storage, Housekeeping(storage, config, streams)


def camera(name: str, keep_for: float | None, **record: str) -> StreamConfig:
    kept = RecordConfig.model_validate({"keep_for": keep_for, **record})
    return StreamConfig(name, SourceUri("rtsp://192.0.2.1/"), record=kept)


def recorded(path: Path, at: float) -> Path:
    """Leave a recording that ended at a Unix time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\0\0\x20ftyp" + FROM_CAMERA.encode())
    os.utime(path, (at, at))
    return path


class Clocks:
    """The wall clock, which may be set, and the monotonic one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wall: float) -> None:
        self.wall, self.passed = wall, 0.0
        monkeypatch.setattr(time, "time", lambda: self.wall + self.passed)
        monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + self.passed)


def known_of(storage: Storage) -> tuple[float | None, ...]:
    status = storage.status
    return status.size, status.free, status.oldest


def leave_part(root: Path) -> Path:
    return tear(root / NAME)


def test_a_run_begins_with_repairs_and_ends_with_a_release(root: Path) -> None:
    part = leave_part(root)
    storage, rig = keep_house(root)
    with rig:
        assert not part.exists()
        assert len(decode(root / NAME)) > 30
        wait_until(lambda: storage.status.free is not None)
        assert storage.status.size == (root / NAME).stat().st_size
        other = Storage(root)
        with pytest.raises(StartupError, match="another centernetd"):
            other.claim()
    assert not any(thread.name == "storage" for thread in threading.enumerate())
    other.claim()
    other.release()


def test_the_text_is_published_in_the_thread_that_waits_for_disks(root: Path) -> None:
    storage, rig = keep_house(root)
    rig.publish("before the root is claimed")
    rig.tick()
    assert published_in(root / LOCK_NAME) == "before the root is claimed"
    rig.publish("later")
    assert published_in(root / LOCK_NAME) == "before the root is claimed", "the disk may hang"
    rig.tick()
    assert published_in(root / LOCK_NAME) == "later"
    storage.release()


def test_a_text_is_published_without_delay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping_module, "INTERVAL", LEAP_LASTS)
    storage, rig = keep_house(root)
    with rig:
        wait_until(lambda: storage.status.free is not None)
        rig.publish("here")
        wait_until(lambda: published_in(root / LOCK_NAME) == "here")


def test_a_start_is_stopped_although_the_disk_hangs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), threading.Event()

    def hang(_: Storage) -> None:
        asked.set()
        answers.wait(LEAP_LASTS)
        raise StartupError("too late")

    monkeypatch.setattr(Storage, "claim", hang)
    storage = Storage(root)
    rig = Housekeeping(storage, StorageConfig(), STREAMS, asked.is_set)
    with pytest.raises(StoppedError):
        rig.__enter__()
    answers.set()
    wait_until(lambda: not any(thread.name == "storage" for thread in threading.enumerate()))


def test_a_root_in_use_ends_the_start(root: Path) -> None:
    other = Storage(root)
    other.claim()
    _, rig = keep_house(root)
    with pytest.raises(StartupError, match="another centernetd"):
        rig.__enter__()
    other.release()


def test_without_its_mount_nothing_is_made_or_written(
    root: Path, mounted: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    mounted.append(False)
    storage, rig = keep_house(root, require_mount=True)
    with rig:
        assert not root.exists()
        with pytest.raises(SinkError, match=r"is on the root disk.*until it is mounted"):
            storage.require_writable()
        with pytest.raises(SinkError, match="is on the root disk"):
            storage.place("{stream}.mp4", "gate", 0.0)
        mounted.append(True)
        wait_until(lambda: storage.status.trouble is None)
        assert storage.place("{stream}.mp4", "gate", 0.0) == root / "gate.mp4"
    assert len([line for line in caplog.messages if "root disk" in line]) == 1


def test_a_mount_that_disappears_and_returns_is_claimed_and_repaired_again(
    root: Path, mounted: list[bool]
) -> None:
    storage, rig = keep_house(root, require_mount=True)
    leave_part(root)
    rig.tick()
    storage.require_writable()
    assert None not in known_of(storage)
    mounted.append(False)
    rig.tick()
    with pytest.raises(SinkError):
        storage.require_writable()
    assert known_of(storage) == (None, None, None), "nothing is known of the root disk"
    shutil.rmtree(root)
    part = leave_part(root)
    mounted.append(True)
    rig.tick()
    storage.require_writable()
    assert not part.exists()
    assert None not in known_of(storage)
    storage.release()


def test_a_clock_that_is_wrong_at_the_start_deletes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [root / f"gate/2023-11-14/{hour:02}-00-00.mp4" for hour in (20, 21)]
    for path, age in zip(paths, (7200, 60), strict=True):
        recorded(path, NOON - age)
    clocks = Clocks(monkeypatch, NOON + 400 * DAY)
    storage, rig = keep_house(root, [camera("gate", 3600.0)])
    rig.tick()
    assert [path.exists() for path in paths] == [False, True], "the newest recording counts"
    clocks.passed = LEAP_LASTS
    rig.tick()
    assert not paths[1].exists(), "it has lasted"
    storage.release()


@pytest.mark.parametrize("keep_for", [3600.0, 2 * DAY])
def test_what_has_expired_during_a_week_off_is_gone_within_an_hour(
    root: Path, monkeypatch: pytest.MonkeyPatch, keep_for: float
) -> None:
    paths = [recorded(root / f"gate/2023-11-14/{h:02}-00-00.mp4", NOON + h) for h in range(3)]
    part = recorded(root / f"{NAME}.part", NOON)
    clocks = Clocks(monkeypatch, NOON + 7 * DAY)
    storage, rig = keep_house(root, [camera("gate", keep_for)])
    fresh = recorded(root / NAME, NOON + 7 * DAY)
    rig.tick()
    while any(path.exists() for path in (*paths, part)):
        clocks.passed += 30.0
        assert clocks.passed <= 3600
        rig.tick()
    assert fresh.exists()
    storage.release()


def test_a_clock_that_is_ahead_for_a_while_changes_the_age_of_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch, NOON)
    storage, rig = keep_house(root, [camera("gate", 5 * 3600.0)])
    rig.tick()
    before = recorded(root / "gate/2023-11-14/01-00-00.mp4", NOON)
    storage.end(before, before)
    rig.tick()
    clocks.wall += DAY
    clocks.passed += 60
    ahead = recorded(root / "gate/2023-11-14/02-00-00.mp4", time.time())
    storage.end(ahead, ahead)
    rig.tick()
    clocks.wall -= DAY
    gone: dict[Path, float] = {}
    while len(gone) < 2:
        clocks.passed += 60
        rig.tick()
        gone |= {path: clocks.passed for path in (before, ahead) if not path.exists()} | gone
    assert gone[before] == pytest.approx(5 * 3600, abs=200)
    assert gone[ahead] == pytest.approx(5 * 3600, abs=200)
    storage.release()


def test_a_reload_changes_how_long_files_are_kept(root: Path) -> None:
    now = time.time()
    gate = recorded(root / "gate/2023-11-14/01-00-00.mp4", now - 2 * 3600)
    yard = recorded(root / "yard/2023-11-14/01-00-00.mp4", now - 2 * 3600)
    flat = recorded(root / "cam.mp4", now - 2 * 3600)
    newest = recorded(root / "gate/2023-11-14/02-00-00.mp4", now)
    long = 3 * 3600.0
    streams = [camera("gate", long), camera("yard", long), camera("cam", long, path="cam.mp4")]
    storage, rig = keep_house(root, streams, keep_for=None)
    rig.tick()
    assert all(path.exists() for path in (gate, yard, flat))
    rig.manage([camera("gate", 3600.0)])
    rig.tick()
    assert not gate.exists()
    assert all(path.exists() for path in (newest, yard, flat)), "kept like those of no stream"
    storage.release()


def test_what_was_recorded_by_a_removed_stream_ages_by_the_storage_s_limit(root: Path) -> None:
    now = time.time()
    names = "yard/2023-11-14/01-00-00.mp4", "cam.mp4"
    paths = [recorded(root / name, now - 2 * 3600) for name in names]
    streams = [camera("gate", None), camera("yard", None), camera("cam", None, path="cam.mp4")]
    storage, rig = keep_house(root, streams, keep_for=3600.0)
    recorded(root / "gate/2023-11-14/02-00-00.mp4", now)
    rig.tick()
    assert all(path.exists() for path in paths)
    rig.manage(streams[:1])
    rig.tick()
    assert not any(path.exists() for path in paths)
    storage.release()


@pytest.mark.parametrize("goes", ["folder", "lock"])
def test_another_disk_in_its_place_is_claimed_and_repaired(
    root: Path, goes: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage, rig = keep_house(root)
    rig.publish("here")
    rig.tick()
    if goes == "folder":
        root.rename(root.with_name("gone"))
    else:
        (root / LOCK_NAME).unlink()
    part = leave_part(root)
    trouble = f"storage.root {root} is another disk or folder than"
    with pytest.raises(SinkError, match=trouble):  # until the next tick, too
        storage.place("{stream}.jsonl", "gate", NOON)
    rig.tick()
    with pytest.raises(SinkError, match=trouble):
        storage.require_writable()
    assert known_of(storage) == (None, None, None)
    assert part.exists(), "its writer may need a moment"
    rig.tick()
    assert published_in(root / LOCK_NAME) == "here"
    assert storage.place("{stream}.jsonl", "gate", NOON) == root / "gate.jsonl"
    assert not part.exists()
    assert storage.status.size == (root / NAME).stat().st_size
    with pytest.raises(StartupError, match="another centernetd"):
        Storage(root).claim()
    assert [message for message in caplog.messages if "another disk" in message]
    storage.release()


def test_a_mounted_disk_that_another_daemon_holds_is_reported(
    root: Path, mounted: list[bool]
) -> None:
    other = Storage(root)
    mounted.append(False)
    storage, rig = keep_house(root, require_mount=True)
    with rig:
        other.claim()
        mounted.append(True)
        wait_until(lambda: "another centernetd" in (storage.status.trouble or ""))
        other.release()
        wait_until(lambda: storage.status.trouble is None)


def test_what_a_failing_disk_left_is_completed_when_it_works_again(root: Path) -> None:
    storage, rig = keep_house(root)
    rig.tick()
    part = leave_part(root)
    storage.begin(part)
    storage.end(part, None)
    rig.tick()
    assert not part.exists()
    assert len(decode(root / NAME)) > 30
    assert storage.status.size == (root / NAME).stat().st_size
    storage.release()


def test_a_file_that_can_not_be_completed_stops_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage, rig = keep_house(root, max_bytes=0)
    rig.tick()
    part, other = leave_part(root), root / "gate/2023-11-14/20-00-00.mp4"
    other.write_bytes(b"\0\0\0\x20ftyp" + FROM_CAMERA.encode())
    gone = root / "gone.mp4.part"
    gone.touch()
    for failed in (part, gone):
        storage.end(failed, None)
    gone.unlink()
    storage.end(other, other)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _refuse)
        for _ in range(3):
            rig.tick()
    assert not other.exists()
    assert caplog.messages == [f"{part} can't be completed: Input/output error"], "only once"
    assert part.exists()
    monkeypatch.setattr(housekeeping_module, "RETRY_INTERVAL", 0.0)
    rig._repair_at = 0.0
    rig.tick()
    assert not part.exists()
    storage.release()


def _refuse(*_: object) -> None:
    raise OSError(5, "Input/output error")


def test_a_doubtful_index_is_soon_rebuilt(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, rig = keep_house(root, max_bytes=0)
    rig.tick()
    late = root / NAME
    late.parent.mkdir(parents=True)
    late.write_bytes(b"\0\0\0\x20ftyp" + FROM_CAMERA.encode())
    storage.begin(root / "gate/2023-11-14/20-00-00.mp4.part")
    (root / "gate/2023-11-14/20-00-00.mp4.part").write_bytes(b"growing")
    rig.tick()
    rig.tick()
    assert late.exists()
    monkeypatch.setattr(housekeeping_module, "RETRY_INTERVAL", 0.0)
    rig._scan_took = 10.0
    rig.tick()
    assert late.exists(), "it isn't all that is done"
    rig._scan_took = 0.0
    rig.tick()
    assert not late.exists()
    storage.release()


def fail(patch: pytest.MonkeyPatch, error: Exception) -> list[float]:
    """Have retention fail; returns the times of its tries, which grow."""
    tries: list[float] = []

    def enforce(_: Retention, now: float) -> None:
        tries.append(now)
        raise error

    patch.setattr(Retention, "enforce", enforce)
    return tries


def test_a_disk_that_fails_is_logged_once_and_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping_module, "INTERVAL", 0.01)
    storage, rig = keep_house(root)
    with rig:
        wait_until(lambda: storage.status.free is not None)
        with monkeypatch.context() as patch:
            tries = fail(patch, OSError(5, "Input/output error"))
            wait_until(lambda: len(tries) > 5)
            assert known_of(storage) == (None, None, None)
        wait_until(lambda: storage.status.free is not None)
    assert caplog.messages == [f"storage.root {root}: Input/output error"]


def test_a_fault_of_its_own_is_logged_once_and_does_not_end_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping_module, "INTERVAL", 0.01)
    storage, rig = keep_house(root)
    with rig:
        with monkeypatch.context() as patch:
            tries = fail(patch, ZeroDivisionError())
            wait_until(lambda: len(tries) > 5)
            assert known_of(storage) == (None, None, None)
        wait_until(lambda: storage.status.free is not None)
    assert caplog.messages == ["a fault in centernetd during housekeeping"]
    assert "ZeroDivisionError" in caplog.text


def test_a_thread_that_hangs_on_the_disk_is_logged_and_so_is_its_return(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping_module, "HUNG_AFTER", 0.1)
    called, let_go = threading.Event(), threading.Event()

    def hang(*_: object) -> bool:
        called.set()
        assert let_go.wait(60)
        return True

    storage, rig = keep_house(root, max_bytes=0)
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"\0\0\0\x20ftyp" + FROM_CAMERA.encode())

    def is_hung() -> bool:
        rig.check_for_hang()
        return storage.status.hung

    monkeypatch.setattr(Storage, "remove", hang)
    with rig:
        assert called.wait(60)
        wait_until(is_hung)
        assert is_hung()
        assert known_of(storage) == (None, None, None), "what was known may be outdated"
        let_go.set()
        wait_until(lambda: not is_hung())
    assert [line.partition(" has ")[2] for line in caplog.messages] == [
        f"hung in {root} for 0 s: nothing is deleted meanwhile",
        "come back",
    ]


def test_a_thread_that_looks_at_many_files_does_not_hang(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, rig = keep_house(root, max_bytes=0)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    walk, remove = outputs.walk, Storage.remove
    seen: list[bool] = []

    def take_long() -> None:
        now[0] += HUNG_AFTER - 1
        rig.check_for_hang()
        seen.append(storage.status.hung)

    def walk_slowly(*args: Any) -> Iterator[Any]:
        for found in walk(*args):
            take_long()
            yield found

    def remove_slowly(storage: Storage, path: Path) -> bool:
        take_long()
        return remove(storage, path)

    monkeypatch.setattr(retention, "walk", walk_slowly)
    monkeypatch.setattr(Storage, "remove", remove_slowly)
    folder = (root / NAME).parent
    folder.mkdir(parents=True)
    for minute in range(9):
        path = folder / f"22-{minute:02}-00.mp4"
        path.write_bytes(b"\0\0\0\x20ftyp" + FROM_CAMERA.encode())
    rig._busy_since = now[0]
    rig.tick()
    assert seen == [False] * 18
    storage.release()


def test_a_mount_is_recognized_by_its_file_system(tmp_path: Path) -> None:
    assert is_mounted(Path("/proc/self/none/at/all"))
    assert not is_mounted(Path("/none/at/all"))
    assert is_mounted(tmp_path / "new") == (tmp_path.stat().st_dev != Path("/").stat().st_dev)

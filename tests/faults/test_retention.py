"""What a running daemon deletes and keeps, and a storage root that is mounted later."""

import os
import time
from pathlib import Path

import pytest

from centernetd.config import EventsConfig, RecordConfig, StorageConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.sink.housekeeping import Housekeeping
from centernetd.sink.segments import FROM_CAMERA
from centernetd.sink.storage import Storage
from tests import clips
from tests.faults.conftest import RATE, Measure
from tests.faults.disks import (
    SHORT,
    TMPFS,
    TO_THE_END,
    inside,
    on_a_disk,
    seconds_until,
    wait_for_failures,
    wait_for_more,
)
from tests.faults.evidence import damaged
from tests.faults.set_clock import WallClock, started_by, wait_until_stamped_by
from tests.faults.test_recordings import frames_in
from tests.integration.process import Finished, configure, started, stop
from tests.rtsp import RtspServer
from tests.sinks import tear

TORN = 16  # recordings, as of this many streams
OTHERS = 10_000  # files that are well
DELETED = "the oldest recording"


def deleted(finished: Finished) -> list[str]:
    """Return the names of the recordings that were deleted, in this order."""
    messages = [record["message"] for record in finished.log if DELETED in record["message"]]
    return [Path(message.split()[1].rstrip(",")).name for message in messages]


def test_more_than_may_be_kept(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """A camera and a file are recorded, and exceed max_bytes"""
    clips.count(tmp_path / "clip.mp4", 20)
    storage = {"max_bytes": "90kB", "min_free": "0B"}  # a recording may take a tenth
    streams = {
        "clip": {"source": "clip.mp4", "record": SHORT},
        "cam": {"source": camera.url("play"), "record": SHORT},
    }
    config = configure(tmp_path, squares, streams, storage=storage)
    with started(config) as daemon:
        daemon.wait_for_log(DELETED, 5)
        finished = stop(daemon)
    left = sorted(path.name for path in finished.state.glob("cam/*.mp4"))
    gone = deleted(finished)
    assert left
    measure("turns", sum(name > left[0] for name in gone))
    assert gone == sorted(gone)
    assert sum(map(frames_in, finished.state.glob("clip/*.mp4"))) == 20
    assert not damaged(finished.state.glob("cam/*.mp4"))


def test_a_root_that_is_mounted_later(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """A storage root with `require_mount` is mounted, then unmounted, during a run"""
    stream = {"source": camera.url("play"), "record": SHORT}
    storage = {**TO_THE_END, "require_mount": True}
    config = configure(tmp_path, squares, {"cam": stream}, storage=storage)
    if tmp_path.stat().st_dev != Path("/").stat().st_dev:
        pytest.skip("temporary files are not on the root disk")
    with on_a_disk(config, TMPFS, later=True) as (daemon, disk):
        wait_for_failures(daemon, 0)
        assert not list(disk.iterdir())
        inside(daemon, "mount", *TMPFS.split(), str(daemon.state))
        measure("resumes", seconds_until(lambda: wait_for_more(daemon, "record", 1)))
        assert list(disk.glob("cam/*"))
        inside(daemon, "umount", "--lazy", str(daemon.state))
        daemon.wait_for_log("is on the root disk", 2)
        wait_for_more(daemon, "inferred")
        assert not list(disk.iterdir())
        stop(daemon)


def test_a_start_after_a_kill(tmp_path: Path, measure: Measure) -> None:
    """A start with sixteen torn recordings among ten thousand intact ones"""
    streams = [
        StreamConfig(f"cam{number}", SourceUri("rtsp://192.0.2.1/")) for number in range(TORN)
    ]
    for stream in streams:
        tear(tmp_path / stream.name / "2023-11-14/22-00-00.mp4")
    for number in range(OTHERS):
        hour, second = divmod(number // TORN, 60)
        (tmp_path / f"cam{number % TORN}/2023-11-14/{hour:02}-00-{second:02}.mp4").touch()
    keeper = Housekeeping(Storage(tmp_path), StorageConfig(), streams)
    measure("mended", seconds_until(keeper.__enter__))
    keeper.__exit__()
    assert not list(tmp_path.rglob("*.part"))
    assert not damaged(tmp_path.glob("*/2023-11-14/22-00-00.mp4"))


HOUR, WEEK = 3600.0, 7 * 86_400.0
PERIODS = {"gate": 1 * HOUR, "yard": 100 * HOUR, "old": 24 * HOUR}  # "old" is no longer a stream


@pytest.mark.parametrize("off", [0.0, WEEK], ids=["running", "a week off"])
@pytest.mark.parametrize("leap", [0.0, 24 * HOUR, -24 * HOUR], ids=["right", "ahead", "behind"])
def test_files_that_have_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float, leap: float, measure: Measure
) -> None:
    """Recordings, events and torn files expire; the clock is right, or wrong for half an hour"""
    started_at = time.time()
    wall = passed = 0.0
    monkeypatch.setattr(time, "time", lambda: started_at + wall + passed)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    source = SourceUri("rtsp://192.0.2.1/")
    streams = [
        StreamConfig(
            name,
            source,
            record=RecordConfig(keep_for=PERIODS[name]),
            events=EventsConfig(keep_for=PERIODS[name]),
        )
        for name in ("gate", "yard")
    ]
    torn = tear(tmp_path / "torn" / "torn.mp4").read_bytes()
    gone_by: dict[Path, float] = {}
    for name, period in PERIODS.items():
        mark = f"{FROM_CAMERA}: {name}".encode()
        for number, age in enumerate((0.0, HOUR / 2, 50 * HOUR)):
            contents = {
                f"{name}/2023-11-14/22-0{number}-00.mp4": b"\0\0\0\x20ftyp" + mark + b"\0",
                f"{name}/2023-11-14/22-1{number}-00.mp4.part": torn,
                f"{name}/2023-11-14-0{number}.jsonl": f'{{"stream": "{name}"}}\n'.encode(),
            }
            for path, content in contents.items():
                file = tmp_path / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                os.utime(file, (started_at - off - age, started_at - off - age))
                gone_by[tmp_path / path.removesuffix(".part")] = max(period - off - age, 0.0)
    keeper = Housekeeping(
        Storage(tmp_path), StorageConfig(keep_for=PERIODS["old"], min_free=0), streams
    )
    late = 0.0
    while gone_by:
        wall = leap if HOUR / 4 <= passed < 3 * HOUR / 4 else 0.0
        keeper.tick()
        for file in [file for file in gone_by if not file.exists()]:
            early = gone_by.pop(file) - passed
            assert early <= 0, f"{file} is gone {early} s early"
            late = max(late, -early)
        passed += 60.0
        assert passed < 110 * HOUR, gone_by
    measure("gone", late / HOUR)


def test_a_clock_that_leaps_deletes_nothing(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """The machine's clock is moved by a day and back while recordings are kept for an hour"""
    clock = WallClock(tmp_path / "clock")
    stream = {"source": camera.url("play"), "record": SHORT}
    storage = {"keep_for": "1h", "min_free": "0B"}
    config = configure(tmp_path, squares, {"cam": stream}, storage=storage)
    with started_by(clock, config) as daemon:
        for offset in ("+1d", "-1d", "+0"):
            wait_for_more(daemon, "record", 3 * RATE)
            clock.set(offset)
            wait_until_stamped_by(clock, daemon.state / "cam.jsonl")
        wait_for_more(daemon, "record", 3 * RATE)
        finished = stop(daemon)
    measure("leap", len(deleted(finished)))
    files = list(finished.state.glob("cam/*.mp4"))
    assert sum(map(frames_in, files)) == finished.receipts["cam"].written

"""Disks that fill, fail, are slow, or have no descriptors left for them."""

import os
import threading
import time
from pathlib import Path

import pytest

from tests import clips
from tests.faults.conftest import RATE, Measure
from tests.faults.disks import (
    SHORT,
    TMPFS,
    TO_THE_END,
    failed,
    fill,
    injecting,
    inside,
    on_a_disk,
    seconds_until,
    wait_for_failures,
    wait_for_more,
)
from tests.faults.evidence import Neighbour, events
from tests.faults.test_recordings import frames_in
from tests.footage import moving_square
from tests.integration.process import configure, started, stop
from tests.rtsp import RtspServer, Video, serving
from tests.tools import tool

ONE_FILE = {"path": "{stream}.mp4", "segment": None}
LONG = 3000  # frames, 25 per second, of which a test sees the first few hundred


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that doesn't compress, so that a disk is soon full of it."""
    return clips.noise(tmp_path_factory.mktemp("noise") / "noise.mp4", LONG)


def test_a_full_disk(
    tmp_path: Path, squares: Path, noise: Path, rounds: int, measure: Measure
) -> None:
    """Another program fills a disk of 3 MB, then frees it again"""
    stream = {"source": str(noise), "policy": "live", "record": ONE_FILE}
    config = configure(tmp_path, squares, {"cam": stream}, storage=TO_THE_END)
    with on_a_disk(config, "-t tmpfs -o size=3m none") as (daemon, disk):
        for _ in range(rounds):
            wait_for_more(daemon, "record")
            before = failed(daemon.status("cam"))
            filler = fill(disk)
            measure("disk", seconds_until(lambda: wait_for_failures(daemon, before)))  # noqa: B023
            wait_for_more(daemon, "inferred")
            for old in disk.glob("cam*.mp4"):
                assert frames_in(old)
                old.unlink()
            filler.unlink()
            measure("resumes", seconds_until(lambda: wait_for_more(daemon, "record", 1)))
            wait_for_more(daemon, "record")
        stop(daemon)


def test_a_disk_that_turns_read_only(
    tmp_path: Path, squares: Path, noise: Path, measure: Measure
) -> None:
    """A file system is remounted read-only by the kernel, then replaced"""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    inside_of = [tool("mkfs.ext4"), "-q", "-F", str(image)]
    assert os.spawnv(os.P_WAIT, inside_of[0], inside_of) == 0
    stream = {"source": str(noise), "policy": "live", "record": ONE_FILE}
    config = configure(tmp_path, squares, {"cam": stream}, storage=TO_THE_END)
    with on_a_disk(config, f"-o loop,errors=remount-ro {image}") as (daemon, disk):
        wait_for_more(daemon, "record")
        major, minor = os.major(disk.stat().st_dev), os.minor(disk.stat().st_dev)
        device = Path(f"/sys/dev/block/{major}:{minor}").resolve().name
        trigger = Path(f"/sys/fs/ext4/{device}/trigger_fs_error")
        if not os.access(trigger, os.W_OK):
            pytest.skip("this kernel lets no file system fail on demand")
        trigger.write_text("1")
        measure("disk", seconds_until(lambda: wait_for_failures(daemon, 0)))
        wait_for_more(daemon, "inferred")
        state = str(daemon.state)
        inside(daemon, "umount", "--lazy", state)
        inside(daemon, "mount", *TMPFS.split(), state)
        measure("resumes", seconds_until(lambda: wait_for_more(daemon, "record", 1)))
        stop(daemon)


def test_a_camera_that_floods_the_disk_with_files(
    tmp_path: Path, squares: Path, camera: RtspServer, rounds: int, measure: Measure
) -> None:
    """On a disk with room for 50 files, two cameras change their picture size with each frame"""
    videos = (moving_square(size, key_interval=1) for size in ((128, 160), (96, 128)))
    pictures = [
        picture for pair in zip(*(v.pictures for v in videos), strict=True) for picture in pair
    ]
    with serving(Video(pictures, RATE)) as flooding:
        flood = {"source": flooding.url("play"), "policy": "live"}
        streams = {
            "cam": {"source": camera.url("play"), "policy": "lossless", "record": SHORT},
            "drawn": {**flood, "record": SHORT},
            "copied": {**flood, "record": {**SHORT, "video": "source"}},
        }
        config = configure(tmp_path, squares, streams, storage=TO_THE_END)
        with on_a_disk(config, "-t tmpfs -o size=64m,nr_inodes=160 none") as (daemon, disk):
            wait_for_more(daemon, "record", 1)  # the disk is mounted
            for number in range(110):  # of others; a tenth of all is kept free for them
                (disk / f"other-{number}").touch()
            daemon.wait_for_log("the oldest recording", 8 * rounds)
            assert os.statvfs(disk).f_ffree > 0
            finished = stop(daemon)
    measure("flood", finished.receipts["cam"].dropped)
    assert all(finished.receipts[name].dropped for name in ("drawn", "copied"))


def test_a_slow_disk(
    tmp_path: Path, squares: Path, camera: RtspServer, rounds: int, measure: Measure
) -> None:
    """Each fdatasync takes 2 s for one stream's recording only"""
    streams = {
        name: {"source": camera.url("play"), "record": ONE_FILE, "policy": policy}
        for name, policy in (("slow", "live"), ("cam", "lossless"))
    }
    config = configure(tmp_path, squares, streams)
    slow = [tmp_path / "state/slow.mp4.part"]
    slow[0].parent.mkdir()
    with started(config, prefix=injecting(slow, "fdatasync:delay_enter=2000000")) as daemon:
        daemon.wait_for_frames("cam", 1)
        overflow = ("record/overflow", 0)
        daemon.wait_for_status("slow", lambda status: status["dropped"].get(*overflow) > 0)
        began = time.time()
        threading.Event().wait(max(10.0, 4.0 * rounds))  # as long as the disk is to be slow
        over = time.time()
        finished = stop(daemon)
    for name in streams:
        seen = sum(began <= event.time < over for event in events(finished, name))
        measure("slow", max(0.0, 100 * (1 - seen / (over - began) / RATE)))
    measure("unhurt", Neighbour(camera, "lossless", RATE).lost(finished, "cam"))
    assert frames_in(finished.state / "slow.mp4") == finished.receipts["slow"].written


def test_no_descriptors_left(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """The process reaches its limit of open files for a while"""
    config = configure(tmp_path, squares, {"cam": {"source": camera.url("play"), "record": SHORT}})
    with started(config) as daemon:
        wait_for_more(daemon, "record")
        limit = [tool("prlimit"), f"--pid={daemon.process.pid}"]
        assert os.spawnv(os.P_WAIT, limit[0], [*limit, "--nofile=3:4096"]) == 0
        # Its page can't be asked meanwhile, as that takes a descriptor.
        daemon.wait_for_log("Too many open files")
        assert os.spawnv(os.P_WAIT, limit[0], [*limit, "--nofile=4096:4096"]) == 0
        measure("resumes", seconds_until(lambda: wait_for_more(daemon, "record", 1)))
        assert failed(daemon.status("cam"))
        finished = stop(daemon)
    files = list(finished.state.glob("cam/*.mp4"))
    assert sum(map(frames_in, files)) >= finished.receipts["cam"].written

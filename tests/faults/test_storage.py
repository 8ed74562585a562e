"""Disks that fill, fail, are slow, or have no descriptors left for them."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests import clips
from tests.faults.conftest import RATE, Measure
from tests.faults.disks import fill, injecting, inside, on_a_disk
from tests.faults.house import Neighbour
from tests.faults.test_recordings import frames_in
from tests.integration.process import Daemon, started
from tests.integration.telling import configure, stop
from tests.rtsp import RtspServer
from tests.tools import tool

TO_THE_END = {"min_free": "0B"}
ONE_FILE = {"path": "{stream}.mp4", "segment": None}
SHORT = {"path": "{stream}/%H-%M-%S.mp4", "segment": "1s"}
LONG = 3000  # frames, 25 a second, of which a test sees the first few hundred


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that doesn't compress, so that a disk is soon full of it."""
    return clips.noise(tmp_path_factory.mktemp("noise") / "noise.mp4", LONG)


def failed(status: dict[str, Any]) -> int:
    return int(status["dropped"].get("record/failed", 0))


def wait_for_failures(daemon: Daemon, before: int) -> None:
    """Wait until more frames than ``before`` have failed to be written."""
    daemon.wait_for_status("cam", lambda status: failed(status) > before)


def wait_for_more(daemon: Daemon, key: str, count: int = 20) -> None:
    """Wait until more frames are inferred (`inferred`), or written (`record`)."""

    def now(status: dict[str, Any]) -> int:
        return int(status["written"]["record"] if key == "record" else status["inferred"])

    daemon.wait_until_reachable()
    before = now(daemon.status("cam"))
    daemon.wait_for_status("cam", lambda status: now(status) >= before + count)


def test_a_full_disk(
    tmp_path: Path, squares: Path, noise: Path, rounds: int, measure: Measure
) -> None:
    """A disk of 3 MB is filled by somebody else, and has room again"""
    stream = {"source": str(noise), "policy": "live", "record": ONE_FILE}
    config = configure(tmp_path, squares, {"cam": stream}, storage=TO_THE_END)
    with on_a_disk(config, "-t tmpfs -o size=3m none") as (daemon, disk):
        for _ in range(rounds):
            wait_for_more(daemon, "record")
            before = failed(daemon.status("cam"))
            filler = fill(disk)
            began = time.monotonic()
            wait_for_failures(daemon, before)
            measure("disk", time.monotonic() - began)
            wait_for_more(daemon, "inferred")
            filler.unlink()
            for old in disk.glob("cam*.mp4"):
                assert frames_in(old)
                old.unlink()
            wait_for_more(daemon, "record")
        stop(daemon)


def test_a_disk_that_turns_read_only(tmp_path: Path, squares: Path, noise: Path) -> None:
    """A file system that the kernel remounts read-only, and that is replaced"""
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
        wait_for_failures(daemon, 0)
        wait_for_more(daemon, "inferred")
        state = str(daemon.state)
        inside(daemon, "umount", "--lazy", state)
        inside(daemon, "mount", "-t", "tmpfs", "none", state)
        wait_for_more(daemon, "record")
        stop(daemon)


def test_a_slow_disk(
    tmp_path: Path, squares: Path, camera: RtspServer, rounds: int, measure: Measure
) -> None:
    """Each fdatasync of one stream's recording takes 2 s, and none of the other's"""
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
        threading.Event().wait(4.0 * rounds)  # as long as the disk is to be slow
        wait_for_more(daemon, "inferred")
        finished = stop(daemon)
    measure("unhurt", Neighbour(camera, "lossless", RATE).lost(finished, "cam"))
    assert frames_in(finished.state / "slow.mp4") == finished.receipts["slow"].written


def test_no_descriptors_left(tmp_path: Path, squares: Path, camera: RtspServer) -> None:
    """The process may open nothing more, for a while"""
    config = configure(tmp_path, squares, {"cam": {"source": camera.url("play"), "record": SHORT}})
    with started(config) as daemon:
        wait_for_more(daemon, "record")
        limit = [tool("prlimit"), f"--pid={daemon.process.pid}"]
        assert os.spawnv(os.P_WAIT, limit[0], [*limit, "--nofile=3:4096"]) == 0
        # Its page can't be asked meanwhile, as that takes a descriptor.
        daemon.wait_for_log("Too many open files")
        assert os.spawnv(os.P_WAIT, limit[0], [*limit, "--nofile=4096:4096"]) == 0
        wait_for_more(daemon, "record")
        assert failed(daemon.status("cam"))
        finished = stop(daemon)
    files = list(finished.state.glob("cam/*.mp4"))
    assert sum(map(frames_in, files)) >= finished.receipts["cam"].written


def test_a_clock_that_leaps_deletes_nothing(
    tmp_path: Path, squares: Path, camera: RtspServer
) -> None:
    """The machine's clock is set by a day and back, and recordings are kept for an hour"""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    (library,) = (
        Path(tool("faketime")).resolve().parents[1].glob("lib/*/faketime/libfaketimeMT.so.1")
    )
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    stream = {"source": camera.url("play"), "record": SHORT}
    storage = {"keep_for": "1h", "min_free": "0B"}
    config = configure(tmp_path, squares, {"cam": stream}, storage=storage)
    with started(config, environ=faked) as daemon:
        for offset in ("+1d", "-1d", "+0"):
            wait_for_more(daemon, "record", 3 * RATE)
            clock.write_text(offset)
        wait_for_more(daemon, "record", 3 * RATE)
        finished = stop(daemon)
    files = list(finished.state.glob("cam/*.mp4"))
    assert sum(map(frames_in, files)) == finished.receipts["cam"].written

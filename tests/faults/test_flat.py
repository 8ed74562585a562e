"""What months do, in minutes: thousands of frames, hundreds of reconnections."""

import threading
from pathlib import Path

from tests.faults.conftest import Measure
from tests.faults.house import UNRECORDED
from tests.faults.usage import growth, observe
from tests.integration.process import Daemon, started
from tests.integration.telling import configure, stop
from tests.rtsp import RtspServer

CLOSING = 8  # cameras that close the connection after every few pictures
ODD = {  # ... and those that stall, refuse or don't answer
    "mute": "mute/20",
    "blind": "sound/20",
    "silent": "silent",
    "locked": "locked/play",
    "missing": "nowhere",
}
FRAMES, RECONNECTIONS = 100_000, 200  # that the promise speaks of
FULL = 20 * 60.0  # seconds of a soak that must reach them
WARM_UP = 0.3  # of the soak
WINDOW = 0.2  # of the soak: what is compared, after the warm-up and at the end
LEAST = 2.0  # seconds of a window, however short the soak
LEAST_WARM_UP = 8.0


def test_a_soak(
    tmp_path: Path, squares: Path, camera: RtspServer, soak: float, measure: Measure
) -> None:
    """Cameras that hang up, stall, refuse or don't answer, one that never does, one in a hurry"""
    streams = {
        f"closing{number}": {"source": camera.url("close/5"), **UNRECORDED}
        for number in range(CLOSING)
    }
    streams |= {
        name: {"source": camera.url(path), "stall_timeout": "2s", **UNRECORDED}
        for name, path in ODD.items()
    }
    streams["locked"]["source"] = camera.url(ODD["locked"]).replace("://", "://viewer:wrong@")
    streams["steady"] = {"source": camera.url("play"), "record": {"segment": "2s"}}
    streams["hurried"] = {"source": camera.url("flood/150"), **UNRECORDED}
    with started(configure(tmp_path, squares, streams)) as daemon:
        daemon.wait_for_frames("steady", 1)
        pid, window = daemon.process.pid, max(LEAST, WINDOW * soak)
        threading.Event().wait(max(LEAST_WARM_UP, WARM_UP * soak))
        before, started_with = observe(pid, window), work(daemon)
        threading.Event().wait(max(0.0, soak * (1 - WARM_UP - 2 * WINDOW)))
        after, done = observe(pid, window), work(daemon)
        stop(daemon)
    frames, reconnections = (b - a for a, b in zip(started_with, done, strict=True))
    enough = frames >= FRAMES and reconnections >= RECONNECTIONS
    assert enough or soak < FULL
    told = f"{frames:,} frames and {reconnections:,} reconnections later"
    memory, threads, descriptors = growth(before, after)
    measure("threads", threads, told, enough=enough)
    measure("descriptors", descriptors, told, enough=enough)
    measure("memory", memory, told, enough=enough)


def work(daemon: Daemon) -> tuple[int, int]:
    """Return how many frames were inferred and how many reconnections made so far."""
    streams = daemon.streams().values()
    return sum(s["inferred"] for s in streams), sum(s["reconnects"] for s in streams)

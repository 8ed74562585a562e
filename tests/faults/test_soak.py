"""What months do, in minutes: thousands of frames, hundreds of reconnections."""

import threading
from pathlib import Path

from tests.faults.conftest import Measure
from tests.faults.evidence import UNRECORDED
from tests.faults.usage import Usage, growth, observe
from tests.integration.process import Daemon, configure, free_port, started, stop
from tests.rtsp import Video, serving

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
LEAST_WARM_UP = 8.0
CALM = 4.0  # seconds until a daemon without cameras has closed all it had open for them
WINDOW = 3.0  # seconds it is then watched


def test_a_soak(tmp_path: Path, squares: Path, video: Video, soak: float, measure: Measure) -> None:
    """Cameras that hang up, stall, refuse, don't answer, are never reachable or flood"""
    port = free_port()
    camera = f"rtsp://127.0.0.1:{port}"
    streams = {
        f"closing{number}": {"source": f"{camera}/close/5", **UNRECORDED}
        for number in range(CLOSING)
    }
    streams |= {
        name: {"source": f"{camera}/{path}", "stall_timeout": "2s", **UNRECORDED}
        for name, path in ODD.items()
    }
    streams["locked"]["source"] = f"rtsp://viewer:wrong@127.0.0.1:{port}/{ODD['locked']}"
    streams["steady"] = {"source": f"{camera}/play", "record": {"segment": "2s"}}
    streams["hurried"] = {"source": f"{camera}/flood/150", **UNRECORDED}
    with started(configure(tmp_path, squares, streams)) as daemon:
        with serving(video, port):
            daemon.wait_for_frames("steady", 1)
            threading.Event().wait(max(LEAST_WARM_UP, WARM_UP * soak))
        before, started_with = at_rest(daemon), work(daemon)
        with serving(video, port):
            threading.Event().wait(soak * (1 - WARM_UP))
        after, done = at_rest(daemon), work(daemon)
        stop(daemon)
    frames, reconnections = (b - a for a, b in zip(started_with, done, strict=True))
    enough = frames >= FRAMES and reconnections >= RECONNECTIONS
    assert enough or soak < FULL
    note = f"{frames:,} frames and {reconnections:,} reconnections later"
    memory, threads, descriptors = growth(before, after)
    measure("threads", threads, note, enough=enough)
    measure("descriptors", descriptors, note, enough=enough)
    measure("memory", memory, note, enough=enough)


def at_rest(daemon: Daemon) -> list[Usage]:
    """Watch a daemon none of whose cameras can be reached: what is in hand doesn't count then."""
    for stream in daemon.streams():
        daemon.wait_for_status(stream, lambda status: status["state"] == "reconnecting")
    threading.Event().wait(CALM)
    return observe(daemon.process.pid, WINDOW)


def work(daemon: Daemon) -> tuple[int, int]:
    """Return how many frames were inferred and how many reconnections made so far."""
    streams = daemon.streams().values()
    return sum(s["inferred"] for s in streams), sum(s["reconnects"] for s in streams)

"""The machine's clock is set while recordings are made."""

from itertools import pairwise
from pathlib import Path

from tests.faults.conftest import RATE, Measure
from tests.faults.evidence import disordered, events, missing, times
from tests.integration.process import configure, started, stop
from tests.rtsp import RtspServer
from tests.tools import tool

DAY = 86_400
EVERY = 15  # frames from one setting of the clock to the next
SEGMENT = 2.0  # seconds
SEGMENTS = {"path": "{stream}/%Y%m%dT%H%M%S.mp4", "segment": f"{SEGMENT:.0f}s"}
LATEST_KEY = 1.1  # seconds that a segment may be longer: it ends before a key frame


def test_the_clock_is_set(
    tmp_path: Path, squares: Path, camera: RtspServer, rounds: int, measure: Measure
) -> None:
    """The machine's clock is moved by a day and back while segments of 2 s are recorded"""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    stream = {"source": camera.url("play"), "policy": "lossless", "record": SEGMENTS}
    with started(configure(tmp_path, squares, {"cam": stream}), environ=faked) as daemon:
        for turn in range(1, 2 * rounds + 1):
            daemon.wait_for_frames("cam", turn * EVERY)
            clock.write_text("+1d" if turn % 2 else "+0")
        daemon.wait_for_frames("cam", (2 * rounds + 1) * EVERY)
        finished = stop(daemon)
    frames = events(finished, "cam")
    jumps = [later.time - earlier.time for earlier, later in pairwise(frames)]
    assert max(jumps) > DAY / 2, "the clock was not set"
    assert min(jumps) < -DAY / 2, "the clock was not set back"
    measure("time", disordered(frames))
    assert missing([frame.pts for frame in frames], RATE, frames[0].pts, frames[-1].pts) == 0
    segments = [times(file) for file in (finished.state / "cam").glob("*.mp4")]
    assert sum(map(len, segments)) == finished.receipts["cam"].written
    assert max(segment[-1] for segment in segments) < SEGMENT + LATEST_KEY


def _library() -> str:
    """Return the path of faketime's library for programs with threads."""
    (found,) = Path(tool("faketime")).resolve().parents[1].glob("lib/*/faketime/libfaketimeMT.so.1")
    return str(found)

"""The machine's clock is set while recordings are made."""

from itertools import pairwise
from pathlib import Path

from tests.faults.conftest import RATE, Measure
from tests.faults.disks import wait_for_more
from tests.faults.evidence import disordered, events, missing, times
from tests.faults.set_clock import DAY, WallClock, started_by, wait_until_stamped_by
from tests.integration.process import configure, stop
from tests.rtsp import RtspServer

EVERY = 15  # frames from one setting of the clock to the next
SEGMENT = 2.0  # seconds
SEGMENTS = {"path": "{stream}/%Y%m%dT%H%M%S.mp4", "segment": f"{SEGMENT:.0f}s"}
LATEST_KEY = 1.1  # seconds that a segment may be longer: it ends before a key frame


def test_the_clock_is_set(
    tmp_path: Path, squares: Path, camera: RtspServer, rounds: int, measure: Measure
) -> None:
    """The machine's clock is moved by a day and back while segments of 2 s are recorded"""
    clock = WallClock(tmp_path / "clock")
    stream = {"source": camera.url("play"), "policy": "lossless", "record": SEGMENTS}
    with started_by(clock, configure(tmp_path, squares, {"cam": stream})) as daemon:
        for offset in ("+1d", "+0") * rounds:
            wait_for_more(daemon, "inferred", EVERY)
            clock.set(offset)
            wait_until_stamped_by(clock, daemon.state / "cam.jsonl")
        wait_for_more(daemon, "inferred", EVERY)
        finished = stop(daemon)
    frames = events(finished, "cam")
    jumps = [later.time - earlier.time for earlier, later in pairwise(frames)]
    assert max(jumps) > DAY / 2, "the clock was not set"
    assert min(jumps) < -DAY / 2, "the clock was not set back"
    measure("time", disordered(frames))
    receipt = finished.receipts["cam"]
    # A busy machine may drop frames, but none is lost uncounted. The first is timed by its arrival.
    since, *_, until = stamps = [frame.pts for frame in frames[1:]]
    assert missing(stamps, RATE, since, until) <= receipt.dropped
    segments = [times(file) for file in (finished.state / "cam").glob("*.mp4")]
    assert sum(map(len, segments)) == receipt.written
    longest_gap = max(later - earlier for earlier, later in pairwise(stamps))
    assert max(segment[-1] for segment in segments) < SEGMENT + LATEST_KEY + longest_gap

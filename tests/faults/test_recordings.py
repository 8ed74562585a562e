"""Recordings outlive the daemon, whatever ends it."""

import json
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import pytest

from tests import clips
from tests.faults.conftest import RATE, Measure
from tests.faults.house import damaged, times
from tests.integration.process import STOP_PROMISE, started
from tests.integration.telling import configure, stop
from tests.rtsp import RtspServer, Video, serving

KINDS = {
    "annotated": {},
    "copied": {"video": "source"},
    "detected": {"when": "detection"},  # of a camera in which something always is
}
KILLS = {True: 10, False: 34}  # once a round, and of three recordings each: 30 and 102 moments
LONGEST = 3.0  # seconds of recording before a kill
SIGNALS = 1000


@pytest.fixture
def cameras(video: Video) -> Iterator[dict[str, RtspServer]]:
    """A camera for each kind of recording."""
    with ExitStack() as open_servers:
        yield {kind: open_servers.enter_context(serving(video)) for kind in KINDS}


def frames_in(path: Path) -> int:
    """Count the frames of a complete file: every one must be readable."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_kill_and_recovery(
    tmp_path: Path,
    squares: Path,
    cameras: dict[str, RtspServer],
    rounds: int,
    measure: Measure,
) -> None:
    """`kill -9` at random moments of three kinds of running recordings, and a start after each"""
    record = {"path": "{stream}.mp4", "segment": None, "before": "1s"}
    asked = {
        kind: {
            "source": cameras[kind].url("play"),
            "policy": "lossless",
            "record": {**record, **how},
        }
        for kind, how in KINDS.items()
    }
    config = configure(tmp_path, squares, asked)
    chance, kept = random.Random(rounds), dict.fromkeys(KINDS, 0)
    for _ in range(KILLS[rounds == 1]):
        with started(config) as daemon:
            for kind in KINDS:
                daemon.wait_for_status(kind, lambda status: status["written"]["record"] > 0)
            threading.Event().wait(chance.uniform(0, LONGEST))
            streams = json.loads(daemon.get("/status")[1])["streams"]
            daemon.send(signal.SIGKILL)
            state = daemon.finish().state
        for kind in KINDS:
            left = [part for part in state.glob(f"{kind}*.part") if part.stat().st_size]
            frames = sum(len(times(part)) for part in left)
            # Of what it had decoded, and perhaps one more since it was asked.
            lost = streams[kind]["captured"] + 1 - frames
            measure("kill", max(0, lost) / RATE)
            kept[kind] += frames
    with started(config) as daemon:
        daemon.wait_for_frames("annotated", 1)
        finished = stop(daemon)
    assert not list(state.rglob("*.part"))
    for kind in KINDS:
        files = {path: frames_in(path) for path in state.glob(f"{kind}*.mp4")}
        measure("whole", sum(count == 0 for count in files.values()))
        assert sum(files.values()) >= kept[kind] + finished.receipts[kind].written
        for path in state.glob(f"{kind}*.jsonl"):
            assert all(json.loads(line) for line in path.read_text().splitlines())


def test_names_that_collide(tmp_path: Path, squares: Path) -> None:
    """Streams whose names are those that another's files get when a name is taken"""
    clips.count(tmp_path / "clip.mp4", 20)
    streams = {name: {"source": "clip.mp4"} for name in ("cam", "cam-1", "cam-1-1")}
    config = configure(tmp_path, squares, streams)
    for run in (1, 2, 3):
        with started(config) as daemon:
            finished = daemon.finish()
        assert finished.code == 0, finished.stderr
        assert all(receipt.written == 20 for receipt in finished.receipts.values())
        files = list(finished.state.glob("*.mp4"))
        assert len(files) == 3 * run, "one was overwritten"
        assert [frames_in(path) for path in files] == [20] * len(files)


def test_a_storm_of_signals(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """A thousand SIGTERM and SIGINT as fast as they can be sent, and a start after them"""
    config = configure(tmp_path, squares, {"cam": {"source": camera.url("play")}})
    with started(config) as daemon:
        written = daemon.wait_for_status("cam", lambda status: status["written"]["record"] >= RATE)
        for number in range(SIGNALS):
            daemon.send(signal.SIGINT if number % 2 else signal.SIGTERM)
        finished = daemon.finish(5.0)
    assert finished.code in (0, 1), finished.stderr
    assert "Traceback" not in finished.stderr
    with started(config) as daemon:
        daemon.wait_for_frames("cam", 1)
        stop(daemon)
    assert not list(finished.state.rglob("*.part"))
    (first,) = finished.state.glob("cam.mp4")
    measure("signals", damaged([first]))
    assert frames_in(first) >= written["written"]["record"]


def test_a_storm_of_reloads(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """A thousand SIGHUP, each of which is heard, and then one SIGTERM"""
    stream = {"source": camera.url("play"), "policy": "lossless"}
    config = configure(tmp_path, squares, {"cam": stream})
    with started(config) as daemon:
        daemon.wait_for_status("cam", lambda status: status["written"]["record"] >= RATE)
        for _ in range(SIGNALS):
            daemon.send(signal.SIGHUP)
            threading.Event().wait(0.001)  # those that come together are one
        daemon.wait_for_status("cam", lambda status: status["written"]["record"] >= 3 * RATE)
        finished = stop(daemon, STOP_PROMISE)
    assert "Traceback" not in finished.stderr
    recordings = list(finished.state.glob("cam*.mp4"))
    measure("signals", damaged(recordings))
    (whole,) = recordings
    assert frames_in(whole) == finished.receipts["cam"].written
    assert finished.receipts["cam"].dropped == 0

"""Recordings outlive the daemon, whatever ends it."""

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import av
import pytest

from centernetd.config.template import PART
from tests import clips
from tests.faults.conftest import RATE, Measure
from tests.faults.evidence import damaged, times
from tests.integration.process import STOP_PROMISE, configure, started, stop
from tests.rtsp import RtspServer, Video, serving

ONE_FILE = {"path": "{stream}/whole.mp4", "segment": None, "before": "1s"}
KINDS = {
    "annotated": ONE_FILE,
    "segmented": {"path": "{stream}/%Y%m%dT%H%M%S.mp4", "segment": "1s"},
    "copied": {**ONE_FILE, "video": "source"},
    "detected": {**ONE_FILE, "when": "detection"},  # of a camera in which something always is
}
KILLS = {True: 30, False: 100}  # in one round, and in more
DAEMONS = 2  # killed side by side: one starts while the other records
LONGEST = 2.0  # seconds of recording before a kill
SIGNALS = 1000


@dataclass
class Victim:
    """A daemon that is killed again and again, and what it had recorded by each kind's camera."""

    config: Path
    cameras: dict[str, RtspServer]
    kept: Counter[str] = field(default_factory=Counter)
    known: set[Path] = field(default_factory=set)

    def kill(self, moment: float) -> float:
        """Kill it ``moment`` seconds after all kinds are recorded; returns the seconds lost."""
        with started(self.config) as daemon:
            for kind in KINDS:
                daemon.wait_for_status(kind, lambda status: status["written"]["record"] > 0)
            threading.Event().wait(moment)
            daemon.send(signal.SIGKILL)
            sent = {kind: camera.visits[-1].sent for kind, camera in self.cameras.items()}
            daemon.finish()
        return max(sent[kind] - self._new_frames(kind) for kind in KINDS) / RATE

    def _new_frames(self, kind: str) -> int:
        """Count what this run has recorded; a start gives a ``*.part`` its name."""
        files = {path.with_name(path.name.removesuffix(PART)): path for path in self.files(kind)}
        frames = sum(len(times(path)) for name, path in files.items() if name not in self.known)
        self.known.update(files)
        self.kept[kind] += frames
        return frames

    def files(self, kind: str) -> list[Path]:
        found = (self.config.parent / "state" / kind).glob("*.mp4*")
        return [path for path in found if path.stat().st_size]


@pytest.fixture
def victims(tmp_path: Path, squares: Path, video: Video) -> Iterator[list[Victim]]:
    with ExitStack() as servers:
        yield [victim(tmp_path / str(number), squares, video, servers) for number in range(DAEMONS)]


def victim(folder: Path, squares: Path, video: Video, servers: ExitStack) -> Victim:
    folder.mkdir()
    cameras = {kind: servers.enter_context(serving(video)) for kind in KINDS}
    streams = {
        kind: {"source": cameras[kind].url("play"), "policy": "lossless", "record": record}
        for kind, record in KINDS.items()
    }
    return Victim(configure(folder, squares, streams), cameras)


def frames_in(path: Path) -> int:
    """Count the frames of a complete file: every one must be readable."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_kill_and_recovery(victims: list[Victim], rounds: int, measure: Measure) -> None:
    """`kill -9` at a random moment of a run with four kinds of recordings, then a restart"""
    chance = random.Random(rounds)
    moments = [chance.uniform(0, LONGEST) for _ in range(KILLS[rounds == 1])]

    def kill(number: int) -> list[float]:
        return [victims[number].kill(moment) for moment in moments[number::DAEMONS]]

    with ThreadPoolExecutor(DAEMONS) as pool:
        for lost in chain.from_iterable(pool.map(kill, range(DAEMONS))):
            measure("kill", max(0.0, lost))
    for killed in victims:
        with started(killed.config) as daemon:
            daemon.wait_for_frames("annotated", 1)
            finished = stop(daemon)
        assert not list(finished.state.rglob("*.part"))
        for kind in KINDS:
            files = killed.files(kind)
            measure("whole", damaged(files))
            assert sum(map(frames_in, files)) >= killed.kept[kind] + finished.receipts[kind].written
        for path in finished.state.glob("*.jsonl"):
            assert all(json.loads(line) for line in path.read_text().splitlines())


def test_names_that_collide(tmp_path: Path, squares: Path, measure: Measure) -> None:
    """Streams named like the files that another stream falls back to when a name is taken"""
    clips.count(tmp_path / "clip.mp4", 20)
    streams = {name: {"source": "clip.mp4"} for name in ("cam", "cam-1", "cam-1-1")}
    config = configure(tmp_path, squares, streams)
    for run in (1, 2, 3):
        with started(config) as daemon:
            finished = daemon.finish()
        assert finished.code == 0, finished.stderr
        assert all(receipt.written == 20 for receipt in finished.receipts.values())
        files = list(finished.state.glob("*.mp4"))
        measure("names", 3 * run - len(files))
        assert [frames_in(path) for path in files] == [20] * len(files)


def test_a_storm_of_signals(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """A thousand SIGTERM and SIGINT as fast as possible, then a restart"""
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
    """A thousand SIGHUP, each of them handled, then one SIGTERM"""
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

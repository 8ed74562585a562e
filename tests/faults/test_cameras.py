"""Many cameras with different faults, next to two that work."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.conftest import RATE, Measure, Neighbours
from tests.faults.evidence import UNRECORDED, Watch, disordered, events, log, silences
from tests.integration import sentinel
from tests.integration.process import Finished, Stream, configure, started, stop
from tests.rtsp import RtspServer, Video, serving

MINUTE = 58.0  # seconds, and a little less for a clock that is looked at now and then
PER_ROUND = 12.5  # seconds: a stall takes ten to be declared
PATHS = {
    "mute": "mute/20",
    "blind": "sound/20",
    "keyless": "keyless",
    "garbled": "garble/20",
    "silent": "silent",
    "rubbish": "rubbish",
    "missing": "nowhere",
    "locked": "locked/play",
    "closing": "close/10",
    "slow": "slow/4",
    "flooding": "flood/200",
    "lossy": "lose/20",
    "resizing": "resize/20",
    "jumping": "jump/20",
}
GOOD = ("well", "patient")


class Crowd(NamedTuple):
    """What is left of the run."""

    finished: Finished
    server: RtspServer
    declared: Mapping[str, Sequence[float]]
    metrics: str

    def silences(self, name: str) -> list[float]:
        """Return how long a camera was silent before each time that this was declared."""
        frames = [event.time for event in events(self.finished, name)]
        visits = [visit.began for visit in self.server.visits_of(PATHS[name])]
        return list(silences([*frames, *visits], self.declared[name]))


@pytest.fixture(scope="module")
def crowd(
    squares: Path,
    video: Video,
    neighbours: Neighbours,
    rounds: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crowd]:
    """A daemon that had all of them for a while."""
    with serving(video) as server:
        urls = {name: server.url(path) for name, path in PATHS.items()}
        urls["locked"] = urls["locked"].replace("://", "://viewer:wrong@")
        streams: dict[str, Stream] = {
            name: {"source": url, **UNRECORDED} for name, url in urls.items()
        }
        streams |= {name: neighbours[name].stream for name in GOOD}
        config = configure(tmp_path_factory.mktemp("crowd"), squares, streams)
        with started(config) as daemon:
            daemon.wait_for_frames("well", 1)
            with Watch(daemon) as watch:
                threading.Event().wait(PER_ROUND * rounds)  # as long as faults are to last
            metrics = daemon.get("/metrics")[1]
            finished = stop(daemon)
        yield Crowd(finished, server, watch.declared, metrics)


@pytest.mark.parametrize("name", ["mute", "blind", "garbled", "keyless", "silent", "rubbish"])
def test_a_camera_that_gives_no_pictures(crowd: Crowd, name: str, measure: Measure) -> None:
    """An RTSP camera connects but sends no pictures, or stops sending them"""
    declared = crowd.silences(name)
    assert declared, log(crowd.finished, name)
    for seconds in declared:
        measure("stall", seconds)


@pytest.mark.parametrize("name", ["resizing", "jumping", "lossy", "flooding"])
def test_a_camera_that_is_merely_odd(crowd: Crowd, name: str, measure: Measure) -> None:
    """A camera changes its size or clock every 2 s, loses a fifth of its packets, or floods"""
    assert len(events(crowd.finished, name)) > RATE
    measure("survive", len(crowd.declared[name]))


@pytest.mark.parametrize("name", ["resizing", "jumping", "lossy", "closing", "slow", "mute"])
def test_time_goes_forward(crowd: Crowd, name: str, measure: Measure) -> None:
    """A camera's clock jumps by an hour, or its connection comes and goes"""
    frames = events(crowd.finished, name)
    assert frames
    measure("time", disordered(frames))


def test_a_wrong_password_is_logged_once(crowd: Crowd, measure: Measure) -> None:
    """A camera rejects the password (RTSP 401, digest)"""
    warnings = [line for line in log(crowd.finished, "locked") if line.level == "warning"]
    assert "password" in warnings[0].message
    for first in warnings:
        measure("told", sum(0 <= line.time - first.time < MINUTE for line in warnings))


@pytest.mark.parametrize("name", ["well", "flooding"])
def test_live_frames_are_in_time(crowd: Crowd, name: str, measure: Measure) -> None:
    """Two of fifteen live streams, by the buckets of the Prometheus histogram"""
    below = {
        float(limit): float(count)
        for limit, count in re.findall(
            rf'frame_latency_seconds_bucket{{le="([^"]+)",stream="{name}"}} (\S+)', crowd.metrics
        )
    }
    measure("latency", min(limit for limit, n in below.items() if n >= 0.99 * max(below.values())))


def test_a_password_is_in_no_file_and_no_log(crowd: Crowd, measure: Measure) -> None:
    """All that a daemon with these cameras writes, logs and serves is searched for the password"""
    finished = crowd.finished
    texts = {"stdout": finished.stdout, "stderr": finished.stderr, "/metrics": crowd.metrics}
    places = [place for name, text in texts.items() for place in sentinel.found_in(name, text)]
    measure("password", len(places + sentinel.found_in_files(finished.state)))


def test_a_wrong_path_is_named(crowd: Crowd) -> None:
    assert any("404" in line.message for line in log(crowd.finished, "missing"))


@pytest.mark.parametrize("name", GOOD)
def test_the_others_lose_nothing(
    crowd: Crowd, neighbours: Neighbours, name: str, measure: Measure
) -> None:
    """Fourteen other cameras are mute, silent, locked, slow, flooding, lossy and so on"""
    neighbour = neighbours[name]
    measure("neighbours", neighbour.lost(crowd.finished, name), slack=neighbour.slack)

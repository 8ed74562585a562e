"""Threads that hang where nothing can wake them: in the C library, the kernel, the engine."""

import signal
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.faults.conftest import RATE, Measure, Neighbours
from tests.faults.evidence import UNRECORDED
from tests.faults.hanging import ServiceManager, file_system, name_server
from tests.integration import test_systemd_unit as unit
from tests.integration.process import (
    PROCESS_TIMEOUT,
    Daemon,
    Stream,
    configure,
    run_command,
    started,
    stop,
)
from tests.rtsp import RtspServer, Video, serving

RECORDED = RATE  # frames before anything hangs
PING_EVERY = 1.0  # seconds; under the unit it is 10, so that the last ping comes no later


@pytest.fixture(scope="module")
def manager(
    squares: Path, video: Video, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceManager]:
    """What hears the pings of a daemon whose inference hangs; meanwhile others can be tried."""
    folder = tmp_path_factory.mktemp("inference")
    with serving(video) as server, ServiceManager(folder, PING_EVERY) as manager:
        config = configure(folder, squares, {"cam": {"source": server.url("play")}})
        runner = "tests.faults.hung_inference"
        with started(config, module=runner, environ=manager.environ) as daemon:
            daemon.wait_for_frames("cam", RATE)
            daemon.send(signal.SIGUSR2)
            manager.mark()
            yield manager


def seconds_to_end(daemon: Daemon) -> float:
    """Return how long after SIGTERM a process has nothing left that runs."""
    daemon.send(signal.SIGTERM)
    began, status = time.monotonic(), Path(f"/proc/{daemon.process.pid}/status")
    while "State:\tZ" not in status.read_text():
        assert time.monotonic() < began + PROCESS_TIMEOUT
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.usefixtures("manager")
def test_a_capture_and_a_sink_hang(
    tmp_path: Path,
    squares: Path,
    camera: RtspServer,
    neighbours: Neighbours,
    rounds: int,
    measure: Measure,
) -> None:
    """One camera's name lookup takes minutes; the disk of one's recording and one's events hangs"""
    mount = tmp_path / "state" / "mount"
    streams: dict[str, Stream] = {
        "capture": {"source": "rtsp://camera.example/play", **UNRECORDED},
        "sink": {"source": camera.url("play"), "record": {"path": "mount/cam.mp4"}},
        "log": {
            "source": camera.url("play"),
            "record": {"when": "never"},
            "events": {"frames": "always", "path": "mount/cam.jsonl"},
        },
    }
    streams |= {name: neighbour.stream for name, neighbour in neighbours.items()}
    config = configure(tmp_path, squares, streams)
    with (
        name_server(tmp_path) as prefix,
        file_system(mount, tmp_path / "backing") as disk,
        started(config, prefix=prefix) as daemon,
    ):
        daemon.wait_for_log("runs on")
        since = {"capture": time.monotonic()}
        for name in ("sink", "log"):
            daemon.wait_for_frames(name, RECORDED)
        for _ in range(rounds):
            disk.send_signal(signal.SIGCONT)
            for name in ("sink", "log"):
                daemon.wait_for_status(name, lambda status: status["state"] == "running")
            disk.send_signal(signal.SIGSTOP)
            since |= dict.fromkeys(("sink", "log"), time.monotonic())
            for name, began in since.items():
                daemon.wait_for_status(name, lambda status: status["state"] == "stuck")
                measure("stuck", time.monotonic() - began)
            since.clear()
        measure("stop", seconds_to_end(daemon))
        disk.send_signal(signal.SIGCONT)  # till then the kernel keeps what is left of the process
        finished = daemon.finish()
    assert finished.code == 0, finished.stderr
    for name, neighbour in neighbours.items():
        measure("unhurt", neighbour.lost(finished, name))


def test_the_storage_thread_hangs(
    tmp_path: Path, squares: Path, camera: RtspServer, rounds: int, measure: Measure
) -> None:
    """The file system of the storage root hangs, then recovers"""
    mount = tmp_path / "state" / "mount"
    stream = {"source": camera.url("play"), "record": {"path": "{stream}.mp4", "segment": None}}
    config = configure(tmp_path, squares, {"cam": stream}, storage={"root": "mount"})
    with (
        file_system(mount, tmp_path / "backing") as disk,
        started(config) as daemon,
    ):
        for number in range(1, rounds + 1):
            daemon.wait_for_frames("cam", RECORDED * number)
            disk.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            while "the storage thread hangs" not in daemon.get("/healthz")[1]:
                assert time.monotonic() < began + PROCESS_TIMEOUT
                time.sleep(0.05)
            measure("storage", time.monotonic() - began)
            daemon.wait_for_log("the storage thread has hung", number)
            assert daemon.get("/healthz")[0] == HTTPStatus.OK
            if number == 1:
                code, _, err = run_command("reload", config)
                assert (code, "its disk may hang" in err) == (1, True)
            disk.send_signal(signal.SIGCONT)
            daemon.wait_for_log("the storage thread has come back", number)
        finished = stop(daemon)
    assert finished.code == 0


def test_inference_hangs(manager: ServiceManager, measure: Measure) -> None:
    """An engine stops returning results while frames wait"""
    measure("watchdog", manager.until_silent() + unit.seconds("WatchdogSec"))

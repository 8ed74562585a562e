"""Real signals to the real command, in every state it can be in."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tests import exports, models
from tests.integration.conftest import DEMO
from tests.integration.process import (
    SQUARES_SIZE,
    STOP_PROMISE,
    Daemon,
    Finished,
    free_port,
    started,
    write_config,
)
from tests.rtsp import RtspServer, Video, moving_square, serving

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
RATE = 25  # of the demo, frames per second
STARTED = 15  # frames that show that a stream runs


@pytest.fixture(scope="module")
def video() -> Video:
    return moving_square()


@pytest.fixture
def camera(video: Video) -> Iterator[RtspServer]:
    with serving(video) as server:
        yield server


def config(folder: Path, squares: Path, stream: dict[str, Any], **sections: Any) -> Path:
    """Write a configuration of one stream, `cam`, that writes an event for every frame."""
    stream = {"events": {"frames": "always", "path": "{stream}.jsonl"}, **stream}
    return write_config(
        folder,
        {"cam": stream},
        model=squares,
        size=SQUARES_SIZE,
        port=free_port(),
        **sections,
    )


def camera_stream(url: str) -> dict[str, Any]:
    return {"source": url, "record": {"path": "{stream}.mp4", "segment": None}}


def stopped(daemon: Daemon, number: signal.Signals) -> Finished:
    """Send a signal; returns what the run left, having checked what every stop promises."""
    daemon.send(number)
    finished = daemon.finish(STOP_PROMISE)
    assert finished.code == 0, finished.stderr
    receipt = finished.receipts["cam"]
    assert receipt.balanced
    assert not list(finished.state.rglob("*.part"))
    recording, events = finished.state / "cam.mp4", finished.state / "cam.jsonl"
    assert decoded(recording) == receipt.written
    lines = events.read_text().splitlines() if events.exists() else []
    numbers = [json.loads(line)["frame"] for line in lines]
    assert numbers == sorted(set(numbers))
    # A camera's first pictures come in a burst: the encoder may drop more of them than the log.
    assert len(numbers) == receipt.written or (receipt.dropped and len(numbers) > receipt.written)
    return finished


def decoded(path: Path) -> int:
    """Count the frames that can be decoded; a file that is cut off raises at its end."""
    count = 0
    if path.exists():
        with av.open(str(path)) as container:
            try:
                for _ in container.decode(video=0):
                    count += 1
            except av.FFmpegError:
                assert path.suffix == ".part"
    return count


@SIGNALS
def test_while_loading(tmp_path: Path, squares: Path, number: signal.Signals) -> None:
    endless = exports.write(models.endless(SQUARES_SIZE), tmp_path / "endless.onnx")
    model = {"path": str(endless)}
    path = config(tmp_path, squares, {"source": str(DEMO)}, models={"default": model})
    with started(path) as daemon:
        daemon.wait_until_reachable()
        assert daemon.get("/healthz") == (503, "not ok\nthe engine is not loaded yet\n")
        daemon.send(number)
        finished = daemon.finish(STOP_PROMISE)
    assert finished.code == 0, finished.stderr
    assert finished.receipts["cam"].balanced
    assert not list(finished.state.rglob("*.part"))


@SIGNALS
@pytest.mark.parametrize("policy", ["lossless", "live"])
def test_while_running(tmp_path: Path, squares: Path, policy: str, number: signal.Signals) -> None:
    path = config(tmp_path, squares, {"source": str(DEMO), "policy": policy})
    with started(path) as daemon:
        daemon.wait_for_frames("cam", STARTED)
        finished = stopped(daemon, number)
    receipt = finished.receipts["cam"]
    assert receipt.captured >= STARTED
    assert receipt.written >= (STARTED if policy == "lossless" else 1), "live: the encoder drops"
    assert receipt.captured < 250, "the signal came too late to show anything"


@SIGNALS
def test_while_a_camera_runs(
    tmp_path: Path, squares: Path, camera: RtspServer, number: signal.Signals
) -> None:
    with started(config(tmp_path, squares, camera_stream(camera.url("play")))) as daemon:
        daemon.wait_for_frames("cam", STARTED)
        finished = stopped(daemon, number)
    assert finished.receipts["cam"].written > 0


@SIGNALS
def test_while_connecting_to_a_silent_server(
    tmp_path: Path, squares: Path, camera: RtspServer, number: signal.Signals
) -> None:
    with started(config(tmp_path, squares, camera_stream(camera.url("silent")))) as daemon:
        camera.wait_for_connections(1)
        daemon.wait_for_log("runs on")
        assert daemon.status("cam")["state"] == "connecting"
        finished = stopped(daemon, number)
    assert finished.receipts["cam"].captured == 0


@SIGNALS
def test_while_a_camera_sends_nothing_more(
    tmp_path: Path, squares: Path, camera: RtspServer, number: signal.Signals
) -> None:
    with started(config(tmp_path, squares, camera_stream(camera.url("mute/75")))) as daemon:
        daemon.wait_for_frames("cam", STARTED)
        finished = stopped(daemon, number)
    assert finished.receipts["cam"].written > 0


@SIGNALS
def test_while_reconnecting(tmp_path: Path, squares: Path, number: signal.Signals) -> None:
    nobody = f"rtsp://127.0.0.1:{free_port()}/play"
    with started(config(tmp_path, squares, camera_stream(nobody))) as daemon:
        daemon.wait_for_status("cam", lambda status: status["reconnects"] >= 2)
        assert daemon.status("cam")["state"] == "reconnecting"
        finished = stopped(daemon, number)
    assert finished.receipts["cam"].captured == 0


def test_two_signals_at_once_cost_no_recording(
    tmp_path: Path, squares: Path, camera: RtspServer
) -> None:
    """As GNU timeout sends them: to its child, and to the group that it is in."""
    with started(config(tmp_path, squares, camera_stream(camera.url("play")))) as daemon:
        daemon.wait_for_frames("cam", STARTED)
        daemon.send(signal.SIGTERM)
        finished = stopped(daemon, signal.SIGTERM)
    assert finished.receipts["cam"].written > 0


def test_a_third_signal_forces_the_exit(tmp_path: Path, squares: Path, camera: RtspServer) -> None:
    """A stop that has to wait, here for a connection that hangs, is cut short."""
    with started(config(tmp_path, squares, camera_stream(camera.url("silent")))) as daemon:
        camera.wait_for_connections(1)
        daemon.wait_for_log("runs on")
        while daemon.process.poll() is None:  # those that come before one is heard count as one
            daemon.send(signal.SIGTERM)
            threading.Event().wait(0.05)
        finished = daemon.finish(STOP_PROMISE)
    assert finished.code == 1
    assert finished.receipts == {}


def test_a_kill_costs_at_most_a_second(tmp_path: Path, squares: Path) -> None:
    path = config(tmp_path, squares, {"source": str(DEMO), "policy": "live"})
    with started(path) as daemon:
        known = daemon.wait_for_frames("cam", 3 * RATE)
        daemon.send(signal.SIGKILL)
        finished = daemon.finish()
    assert finished.code == -signal.SIGKILL
    (left,) = finished.state.glob("*.part")
    kept = decoded(left)
    assert kept >= known["written"]["record"], "what was counted as written must be there"
    lost = sum(n for place, n in known["dropped"].items() if place.startswith("record/"))
    assert kept >= known["inferred"] - lost - RATE, "lost: what the encoder could not keep up with"
    events = (finished.state / "cam.jsonl").read_text()
    assert events.count("\n") >= known["written"]["events"]

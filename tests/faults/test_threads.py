"""A daemon that gets no more threads from the system, as at the limit of its control group."""

import json
import signal
from pathlib import Path

import pytest

from tests.faults.conftest import RATE, Measure
from tests.faults.evidence import damaged
from tests.integration.process import Daemon, Finished, configure, started
from tests.rtsp import RtspServer

MODULE = "tests.faults.no_threads"


def finish(daemon: Daemon, measure: Measure, code: int) -> Finished:
    """Wait for the end; count what it left unfinished."""
    finished = daemon.finish()
    assert finished.code == code, finished.stderr
    assert all(receipt.balanced for receipt in finished.receipts.values())
    left = list(finished.state.rglob("*.part"))
    measure("starved", len(left) + damaged(finished.state.glob("*.mp4")))
    return finished


@pytest.mark.parametrize("name", ["other", "cam"])
def test_a_reload(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure, name: str
) -> None:
    """A reload when no thread can be created, then SIGTERM"""
    config = configure(tmp_path, squares, {"cam": {"source": camera.url("play")}})
    with started(config, module=MODULE) as daemon:
        daemon.wait_for_frames("cam", RATE)
        daemon.send(signal.SIGUSR1)
        settings = json.loads(config.read_text())
        settings["streams"][name] = {**settings["streams"]["cam"], "stall_timeout": "7s"}
        config.write_text(json.dumps(settings))
        daemon.send(signal.SIGHUP)
        daemon.wait_for_log(f"nothing has changed: no thread for record:{name}")
        infers = daemon.status("cam")["inferred"]
        assert daemon.wait_for_frames("cam", infers + RATE)["reconnects"] == 0
        daemon.send(signal.SIGTERM)
        assert list(finish(daemon, measure, 0).receipts) == ["cam"]


def test_a_start(tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure) -> None:
    """A start with one thread too few"""
    config = configure(tmp_path, squares, {"cam": {"source": camera.url("play")}})
    with started(config, module=MODULE, environ={"WITHOUT_THREAD": "capture:cam"}) as daemon:
        finished = finish(daemon, measure, 1)
    assert "no thread for capture:cam: can't start new thread" in finished.stderr
    assert camera.visits_of("play") == []

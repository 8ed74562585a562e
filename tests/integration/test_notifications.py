"""The notifications for systemd from start to stop, received on a socket as systemd would."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clips
from tests.integration.process import PROCESS_TIMEOUT, SQUARES_SIZE, started, write_config


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(PROCESS_TIMEOUT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def heard(systemd: socket.socket, wanted: str) -> list[str]:
    """Return the messages up to the first that matches ``wanted``."""
    messages: list[str] = []
    while not messages or not re.fullmatch(wanted, messages[-1]):
        messages.append(systemd.recv(4096).decode())
    return messages


def test_from_start_to_stop(systemd: socket.socket, tmp_path: Path, squares: Path) -> None:
    source = clips.count(tmp_path / "clip.mp4", 500)
    streams = {"gate": {"source": str(source), "policy": "live"}}
    config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE)
    with started(config) as daemon:
        start = heard(systemd, "READY=1")
        assert start == ["STATUS=loading the model", "EXTEND_TIMEOUT_USEC=300000000", "READY=1"]
        running = heard(systemd, r"STATUS=1 of 1 streams up, [1-9][0-9.]* frames/s, \d+ dropped")
        assert "WATCHDOG=1" in running
        daemon.send(signal.SIGTERM)
        assert "STOPPING=1" in heard(systemd, "STOPPING=1")
        assert daemon.finish().code == 0


def test_a_hung_inference_is_reported_with_where_each_thread_is(
    systemd: socket.socket, tmp_path: Path, squares: Path
) -> None:
    source = clips.count(tmp_path / "clip.mp4", 500)
    streams = {"gate": {"source": str(source), "policy": "live"}}
    config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE)
    with started(config, module="tests.faults.hung_inference") as daemon:
        heard(systemd, r"STATUS=1 of 1 streams up, [1-9].*")
        daemon.send(signal.SIGUSR2)
        daemon.wait_for_log("in harvest")
        daemon.wait_for_log("in hang")
        daemon.send(signal.SIGKILL)
        finished = daemon.finish()
    assert finished.stderr.count("a stack trace of each thread follows") == 1
    assert "inference has made no progress for" in finished.stderr


def test_a_process_that_systemd_aborts_reports_where_each_thread_was(
    systemd: socket.socket, tmp_path: Path, squares: Path
) -> None:
    """With nothing to do, so that no thread moves meanwhile: that can cut the traceback short."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        streams = {"gate": {"source": f"rtsp://127.0.0.1:{silent.getsockname()[1]}/silent"}}
        config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE)
        with started(config) as daemon:
            heard(systemd, "READY=1")
            with silent.accept()[0]:
                daemon.send(signal.SIGABRT)
                finished = daemon.finish()
    assert finished.code == -signal.SIGABRT
    assert "in harvest" in finished.stderr
    assert "in feed" in finished.stderr

"""Cameras that go away, and how soon they are back."""

import random
import threading
import time
from pathlib import Path

from tests.faults.conftest import Measure
from tests.integration.process import Daemon, configure, free_port, started, stop
from tests.rtsp import Video, serving

LONGEST_AWAY = 12.0  # seconds: by then the tries are as far apart as they come


def until_decoded(daemon: Daemon, stream: str) -> float:
    """Return the seconds until a frame is decoded."""
    before, began = daemon.status(stream)["captured"], time.monotonic()
    daemon.wait_for_status(stream, lambda status: status["captured"] > before)
    return time.monotonic() - began


def test_a_server_that_goes_away(
    tmp_path: Path, squares: Path, video: Video, rounds: int, measure: Measure
) -> None:
    """An RTSP server is unreachable at the start, and repeatedly for a while later"""
    port, chance = free_port(), random.Random(rounds)
    url = f"rtsp://127.0.0.1:{port}/play"
    with started(configure(tmp_path, squares, {"cam": {"source": url}})) as daemon:
        daemon.wait_for_log("next try in")
        for _ in range(rounds + 1):
            with serving(video, port):
                measure("return", until_decoded(daemon, "cam"))
            daemon.wait_for_status("cam", lambda status: status["state"] == "reconnecting")
            threading.Event().wait(chance.uniform(0, LONGEST_AWAY) if rounds > 1 else 1)
        stop(daemon)

"""SIGTERM at moments that nobody chose."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Measure
from tests.faults.evidence import times
from tests.integration.process import configure, free_port, started
from tests.rtsp import RtspServer

PATHS = ("play", "mute/20", "silent", "keyless", "close/10", "nowhere")
LONGEST = 5.0  # seconds after the start that a daemon is left alone: it needs half of that to load


@pytest.fixture
def moments(rounds: int) -> Iterator[float]:
    """When to strike, in seconds; other moments for another number of rounds."""
    chance = random.Random(rounds)
    return (chance.uniform(0, LONGEST) for _ in range(rounds))


def test_sigterm(
    tmp_path: Path, squares: Path, camera: RtspServer, moments: Iterator[float], measure: Measure
) -> None:
    """SIGTERM at a random moment; cameras are connecting, running, mute, unreachable or refusing"""
    urls = [*map(camera.url, PATHS), f"rtsp://127.0.0.1:{free_port()}/play"]
    streams = {f"cam{number}": {"source": url} for number, url in enumerate(urls)}
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        with started(configure(folder, squares, streams)) as daemon:
            daemon.wait_until_reachable()
            threading.Event().wait(moment)
            began = time.monotonic()
            daemon.send(signal.SIGTERM)
            finished = daemon.finish()
            measure("stop", time.monotonic() - began)
        assert finished.code == 0, finished.stderr
        for name, receipt in finished.receipts.items():
            assert receipt.balanced
            files = finished.state.glob(f"{name}*.mp4")
            assert sum(len(times(file)) for file in files) == receipt.written
        measure("finished", len(list(finished.state.rglob("*.part"))))

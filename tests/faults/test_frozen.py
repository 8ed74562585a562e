"""A camera whose encoder hangs and goes on sending what it has."""

import threading
import time
from pathlib import Path

from tests.faults.conftest import RATE, Measure
from tests.faults.evidence import UNRECORDED
from tests.integration.process import configure, started, stop
from tests.rtsp import RtspServer

MOVING = 2 * RATE  # pictures before it hangs
AFTER = 30.0  # seconds: what is waited before anybody asks


def test_a_picture_that_stands_still(
    tmp_path: Path, squares: Path, camera: RtspServer, measure: Measure
) -> None:
    """A camera repeats one picture, encoded again each time at a constant bit rate"""
    path = f"frozen/{MOVING}"
    config = configure(tmp_path, squares, {"cam": {"source": camera.url(path), **UNRECORDED}})
    with started(config) as daemon:
        assert not daemon.wait_for_frames("cam", MOVING)["frozen"]
        (visit,) = camera.visits_of(path)
        frozen_at = visit.began + MOVING / RATE
        threading.Event().wait(AFTER)
        daemon.wait_for_status("cam", lambda status: bool(status["frozen"]))
        measure("frozen", time.time() - frozen_at)
        stop(daemon)

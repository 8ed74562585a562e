"""A camera dies and comes back, and a real Prometheus with the shipped rules reports it."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.process import (
    PROCESS_TIMEOUT,
    SQUARES_SIZE,
    free_port,
    started,
    write_config,
)
from tests.integration.prometheus import Prometheus, scraping
from tests.rtsp import RtspServer, moving_square, serving
from tests.tools import tool

PROMISE = 60.0  # seconds from a camera's end to the alert
DOWN = "CenternetdStreamDown"

Firing = set[tuple[str, str]]


def wait_until(prometheus: Prometheus, reached: Callable[[Firing], bool], timeout: float) -> Firing:
    """Ask for the alerts that fire until they are as wanted; returns all that fired meanwhile."""
    deadline, seen = time.monotonic() + timeout, set[tuple[str, str]]()
    while not reached(firing := prometheus.firing()):
        seen |= firing
        assert time.monotonic() < deadline, (firing, prometheus.query("centernetd_stream_up"))
        time.sleep(0.2)
    return seen | firing


@pytest.mark.timeout(240)
def test_one_dead_camera_of_three_is_alerted_on_by_name_until_it_is_back(
    tmp_path: Path, squares: Path
) -> None:
    tool("prometheus")
    video = moving_square(rate=5, count=10, key_interval=5)
    with serving(video) as others, ExitStack() as stack:
        camera = RtspServer(video)
        stack.callback(camera.close)
        servers = {"gate": camera, "yard": others, "hall": others}
        streams = {
            name: {"source": server.url("play"), "record": {"when": "never"}}
            for name, server in servers.items()
        }
        port = free_port()
        config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE, port=port)
        daemon = stack.enter_context(started(config))
        for name in streams:
            daemon.wait_for_frames(name, 1)
        prometheus = stack.enter_context(scraping(port, tmp_path))
        prometheus.wait_for("sum(centernetd_stream_up) == 3")

        camera.close()
        seen = wait_until(prometheus, lambda firing: (DOWN, "gate") in firing, PROMISE)
        assert seen == {(DOWN, "gate")}

        stack.enter_context(serving(video, camera.port))
        seen = wait_until(prometheus, lambda firing: not firing, PROCESS_TIMEOUT)
        assert seen == {(DOWN, "gate")}

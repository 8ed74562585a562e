"""Web cameras and playlists that go away and come back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import playlists, web
from tests.faults.conftest import Measure
from tests.faults.test_return import until_decoded
from tests.integration.process import free_port, started
from tests.integration.telling import configure, stop
from tests.integration.test_rtsp import an_http_camera


def mjpeg(_: Path) -> tuple[str, web.Pages]:
    return "/video", {"/video": an_http_camera}


def hls(folder: Path) -> tuple[str, web.Pages]:
    return playlists.LIVE, playlists.Sliding(playlists.segments(folder, seconds=120))


@pytest.mark.parametrize("kind", [mjpeg, hls])
def test_a_web_server_that_goes_away(
    tmp_path: Path,
    squares: Path,
    kind: Callable[[Path], tuple[str, web.Pages]],
    rounds: int,
    measure: Measure,
) -> None:
    """A web camera (MJPEG), or a server of a playlist (HLS), is gone for a while"""
    port, (path, pages) = free_port(), kind(tmp_path)
    url = f"http://127.0.0.1:{port}{path}"
    with started(configure(tmp_path, squares, {"cam": {"source": url}})) as daemon:
        daemon.wait_for_log("next try in")
        for _ in range(min(rounds, 3) + 1):
            with web.serving(pages, port):
                measure("return", until_decoded(daemon, "cam"))
            daemon.wait_for_status("cam", lambda status: status["state"] == "reconnecting")
        stop(daemon)

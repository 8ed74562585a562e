"""Web cameras and playlists that go away and come back; and clients of our own pages."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from tests import http_servers, playlists
from tests.faults.conftest import Measure
from tests.faults.test_reconnect import until_decoded
from tests.integration.process import Daemon, configure, free_port, nobody, started, stop
from tests.integration.test_rtsp import an_http_camera


def mjpeg(_: Path) -> tuple[str, http_servers.Pages]:
    return "/video", {"/video": an_http_camera}


def hls(folder: Path) -> tuple[str, http_servers.Pages]:
    return playlists.LIVE, playlists.Sliding(playlists.segments(folder, seconds=120))


@pytest.mark.parametrize("kind", [mjpeg, hls])
def test_a_web_server_that_goes_away(
    tmp_path: Path,
    squares: Path,
    kind: Callable[[Path], tuple[str, http_servers.Pages]],
    rounds: int,
    measure: Measure,
) -> None:
    """A web camera (MJPEG) or an HLS server is unreachable for a while"""
    port, (path, pages) = free_port(), kind(tmp_path)
    url = f"http://127.0.0.1:{port}{path}"
    with started(configure(tmp_path, squares, {"cam": {"source": url}})) as daemon:
        daemon.wait_for_log("next try in")
        for _ in range(min(rounds, 3) + 1):
            with http_servers.serving(pages, port):
                measure("return", until_decoded(daemon, "cam"))
            daemon.wait_for_status("cam", lambda status: status["state"] == "reconnecting")
        stop(daemon)


PAGES = ("/metrics", "/healthz", "/readyz", "/status")


@contextmanager
def clients(port: int, count: int, sent: bytes) -> Iterator[None]:
    """Hold connections over which ``sent`` was sent, as much of it as was accepted."""
    with ExitStack() as held:
        for _ in range(count):
            client = held.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.send(sent)
        yield


def answers(daemon: Daemon, page: str) -> bool:
    """Ask for a page, and return whether it was answered in 10 s."""
    try:
        daemon.get(page)
    except (OSError, HTTPException):
        return False
    return True


@pytest.mark.parametrize(
    ("count", "sent"),
    [
        *((count, b"GET %s HTTP/1.1\r\n\r\n" * 327) for count in (2, 40)),
        (300, b"GET %s HTTP/1.1\r\nX: "),
    ],
    ids=[
        "2 clients, 327 requests each",
        "40 clients, 327 requests each",
        "300 clients with unfinished requests",
    ],
)
def test_clients_that_read_nothing(
    tmp_path: Path, squares: Path, count: int, sent: bytes, rounds: int, measure: Measure
) -> None:
    """Clients request pages repeatedly without reading the answers"""
    streams = {f"cam-{number}": {"source": nobody()} for number in range(16)}
    config = configure(tmp_path, squares, streams)
    with started(config) as daemon:
        daemon.wait_until_reachable()
        port = int(json.loads(config.read_text())["metrics"]["listen"].rpartition(":")[2])
        for asked in ("/metrics", "/status"):
            with clients(port, count, sent.replace(b"%s", asked.encode())):
                # all in a row: it takes a moment until what is sent to them fills every buffer
                every = all(answers(daemon, page) for page in PAGES * 25 * min(rounds, 4))
                measure("pages", int(not every))
        stop(daemon)

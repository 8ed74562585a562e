"""Cameras that try to take all memory there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

import pytest

from tests import clips
from tests.faults.conftest import Measure, Neighbours
from tests.faults.evidence import UNRECORDED
from tests.faults.usage import most_memory, usage
from tests.http_servers import Request, answering, forever, head
from tests.integration.process import configure, started, stop
from tests.rtsp import Video, serving
from tests.test_web import ENDLESS, endless_playlist, grows_when_asked_again

REASONS = {"over_limit", "stalled", "unreachable", "open_failed"}
TIMES = 3  # that it is given up


@contextmanager
def web(answer: Callable[[Request], Iterator[bytes]]) -> Iterator[str]:
    with answering(answer) as server:
        yield f"{server.url}/live"


def in_circles(request: Request) -> Iterator[bytes]:
    moved = head("text/html", f"Location: {request.path}x", status="302 Found")
    return chain([moved], forever(bytes(1 << 16)))


def huge(folder: Path) -> Callable[[Request], Iterator[bytes]]:
    """Send a picture that claims 65,500 pixels a side, repeatedly."""
    content = clips.jpeg(folder / "small.jpg", 64, 48).read_bytes()
    at = content.index(b"\xff\xc0") + 5
    picture = content[:at] + (65500).to_bytes(2, "big") * 2 + content[at + 4 :]
    return lambda _: chain([head("image/jpeg")], (picture for _ in count()))


KINDS = [*ENDLESS, "playlist", "growing playlist", "redirect", "huge picture", "RTSP"]


@contextmanager
def hostile(kind: str, folder: Path, video: Video) -> Iterator[str]:
    jpeg = clips.jpeg(folder / "a.jpg", 64, 48).read_bytes()
    if kind == "RTSP":
        with serving(video) as server:
            yield server.url("endless/20")
        return
    answers: dict[str, Callable[[Request], Iterator[bytes]]] = {
        "playlist": endless_playlist,
        "growing playlist": grows_when_asked_again(),
        "redirect": in_circles,
        "huge picture": huge(folder),
    }
    with web(answers.get(kind, lambda _: ENDLESS[kind](jpeg))) as url:
        yield url


@pytest.mark.parametrize("kind", KINDS)
def test_a_camera_that_wants_all_memory(
    kind: str,
    tmp_path: Path,
    squares: Path,
    video: Video,
    neighbours: Neighbours,
    measure: Measure,
) -> None:
    """A camera sends an endless picture, packet, header or playlist, as fast as it is read"""
    streams = {name: neighbour.stream for name, neighbour in neighbours.items()}
    with hostile(kind, tmp_path, video) as url:
        settings = {"source": url, "stall_timeout": "3s", **UNRECORDED}
        config = configure(tmp_path, squares, streams | {"bad": settings})
        with started(config) as daemon:
            daemon.wait_for_log("runs on")
            for name, neighbour in neighbours.items():
                daemon.wait_for_frames(name, neighbour.rate)
            before = usage(daemon.process.pid).memory
            daemon.wait_for_status("bad", lambda status: status["reconnects"] >= TIMES)
            for name, neighbour in neighbours.items():
                daemon.wait_for_frames(name, 8 * neighbour.rate)
            grown = most_memory(daemon.process.pid) - before
            error = daemon.streams()["bad"]["last_error"]
            finished = stop(daemon)
    measure("hostile", grown / 1024, kind)
    assert error or finished.messages("WARNING", "bad")
    for name, neighbour in neighbours.items():
        measure("neighbours", neighbour.lost(finished, name), kind, slack=neighbour.slack)

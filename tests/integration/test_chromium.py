"""A recording plays in a browser's <video>: Chromium, without a window."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests import clips, models
from tests.integration.process import PROCESS_TIMEOUT, SQUARES_SIZE, run, write_config
from tests.tools import tool

SIZE = (240, 320)
FRAMES, RATE = 50, 25
# Plays the video to its end, and reports what was seen in the middle and at the end.
PAGE = """<!DOCTYPE html><video muted src="cam.mp4"></video><script>
const video = document.querySelector("video"), canvas = document.createElement("canvas");
const seen = {times: [], colours: []};
const report = error => fetch("/", {method: "POST", body: JSON.stringify({
    ...seen, error, ended: video.ended, duration: video.duration,
    width: video.videoWidth, height: video.videoHeight})});
const look = () => {
    seen.times.push(video.currentTime);
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    seen.colours.push([...context.getImageData(160, 120, 1, 1).data]);
};
video.requestVideoFrameCallback(function next() {
    look();
    video.requestVideoFrameCallback(next);
});
video.onended = () => report(null);
video.onerror = () => report(video.error.message);
video.play().catch(error => report(String(error)));
</script>"""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]


class Site(SimpleHTTPRequestHandler):
    """Serves a folder and keeps what is posted."""

    def __init__(self, *args: Any, report: "Queue[dict[str, Any]]", directory: str) -> None:
        self._reports = report
        super().__init__(*args, directory=directory)

    def do_POST(self) -> None:
        self._reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> "Iterator[tuple[str, Queue[dict[str, Any]]]]":
    """Serve a folder; gives its address and what pages post."""
    report: Queue[dict[str, Any]] = Queue()
    handler = partial(Site, report=report, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", report
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def report(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser reports of a recording of two seconds."""
    folder = tmp_path_factory.mktemp("browser")
    picture = models.draw(SIZE, (0, (120, 90, 200, 150)))
    clip = clips.write(folder / "clip.mp4", [picture] * FRAMES)
    config = write_config(folder, {"cam": {"source": str(clip)}}, model=squares, size=SQUARES_SIZE)
    finished = run(config)
    assert finished.code == 0, finished.stderr
    (finished.state / "index.html").write_text(PAGE)
    with served(finished.state) as (address, posted):
        profile = f"--user-data-dir={folder / 'profile'}"
        chromium = subprocess.Popen(
            [tool("chromium"), *FLAGS, profile, f"{address}/index.html"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return posted.get(timeout=PROCESS_TIMEOUT)
        finally:
            chromium.terminate()
            chromium.wait(PROCESS_TIMEOUT)


def test_it_plays_to_its_end(report: dict[str, Any]) -> None:
    assert report["error"] is None
    assert report["ended"]
    assert (report["height"], report["width"]) == SIZE
    assert report["times"] == sorted(report["times"])
    assert report["times"][-1] > report["times"][0]


def test_its_length_is_known(report: dict[str, Any]) -> None:
    assert report["duration"] == pytest.approx(FRAMES / RATE, abs=0.05)


def test_its_colours_are_those_of_the_source(report: dict[str, Any]) -> None:
    for red, green, blue, _ in report["colours"]:
        assert red > 200
        assert max(green, blue) < 60

"""Network streams: they come, go, stay away and come back, and never trouble one another."""

from collections.abc import Iterator
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests import http_servers, models
from tests.event_lines import read_events
from tests.integration.conftest import DEMO
from tests.integration.process import (
    STOP_PROMISE,
    Finished,
    Receipt,
    Stream,
    configure,
    free_port,
    started,
    stop,
)
from tests.rtsp import Video, moving_square, serving


@pytest.fixture(scope="module")
def video() -> Video:
    return moving_square()


def events(finished: Finished, stream: str) -> list[dict[str, Any]]:
    return read_events(finished.state / f"{stream}.jsonl")


def test_a_camera_is_read_and_its_square_found(tmp_path: Path, squares: Path, video: Video) -> None:
    with serving(video) as camera:
        config = configure(tmp_path, squares, {"cam": {"source": camera.url("play")}})
        with started(config) as daemon:
            status = daemon.wait_for_frames("cam", 40)
            assert (status["state"], status["fresh"]) == ("running", True)
            assert (status["codec"], status["reconnects"]) == ("h264", 0)
            assert daemon.get("/readyz?stream=cam") == (200, "ok\n")
            finished = stop(daemon, STOP_PROMISE)
    found = events(finished, "cam")
    for event in found:
        (seen,) = event["detections"]
        x1, y1, x2, y2 = seen["box"]
        assert seen["label"] == "class_0"
        assert (x1, x2, y2 - y1) == pytest.approx((64, 96, 32), abs=2)
    steady = found[len(found) // 2 :]
    assert all(later["pts"] > earlier["pts"] for earlier, later in pairwise(found))
    for earlier, later in pairwise(steady):  # the camera's own clock, not that of arrival
        frames = later["frame"] - earlier["frame"]
        assert later["pts"] - earlier["pts"] == pytest.approx(frames / video.rate, abs=1e-4)


def test_a_camera_that_goes_away_and_comes_back(
    tmp_path: Path, squares: Path, video: Video
) -> None:
    port = free_port()
    url = f"rtsp://127.0.0.1:{port}/play"
    with started(configure(tmp_path, squares, {"cam": {"source": url}})) as daemon:
        daemon.wait_for_log("next try in")
        assert daemon.get("/readyz")[0] == 503
        with serving(video, port):
            first = daemon.wait_for_frames("cam", 10)
            assert daemon.get("/readyz")[0] == 200
        away = daemon.wait_for_status("cam", lambda s: s["reconnects"] > first["reconnects"])
        assert away["state"] == "reconnecting"
        code, body = daemon.get("/readyz?stream=cam")
        assert code == 503
        assert "reconnecting" in body
        with serving(video, port):
            daemon.wait_for_frames("cam", away["inferred"] + 10)
            assert daemon.status("cam")["last_error"] is None
            finished = stop(daemon, STOP_PROMISE)
    found = events(finished, "cam")
    assert all(later["pts"] > earlier["pts"] for earlier, later in pairwise(found))
    assert [event["frame"] for event in found] == sorted({event["frame"] for event in found})
    gap = max(later["pts"] - earlier["pts"] for earlier, later in pairwise(found))
    assert gap > 0.3, "the time it was away must show"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("close/30", "the source ended"), ("missing", "404"), ("mute/30", "no picture for 1 s")],
)
def test_what_a_camera_does_wrong_is_named_and_counted(
    tmp_path: Path, squares: Path, video: Video, path: str, reason: str
) -> None:
    with serving(video) as camera:
        stream = {"source": camera.url(path), "stall_timeout": "1s"}
        with started(configure(tmp_path, squares, {"cam": stream})) as daemon:
            daemon.wait_for_log(reason)
            status = daemon.wait_for_status("cam", lambda s: s["reconnects"] >= 2)
            finished = stop(daemon, STOP_PROMISE)
    assert reason in status["last_error"]
    warnings = [text for text in finished.messages("warning", "cam") if "can't keep up" not in text]
    assert all(reason in text for text in warnings)
    assert len(warnings) == 1, "what recurs immediately is logged once per minute"


def test_a_dead_camera_delays_no_other_stream(tmp_path: Path, squares: Path, video: Video) -> None:
    with serving(video) as camera:
        streams: dict[str, Stream] = {
            "silent": {"source": camera.url("silent")},
            "missing": {"source": camera.url("missing")},
            "mute": {"source": camera.url("mute/30")},
            "well": {"source": camera.url("play"), "policy": "lossless"},
            "file": {"source": str(DEMO), "record": {"when": "never"}},
        }
        config = configure(tmp_path, squares, streams)
        with started(config) as daemon:
            daemon.wait_for_frames("file", 250)
            daemon.wait_for_frames("well", 60)
            assert daemon.status("silent")["state"] == "connecting"
            finished = stop(daemon, STOP_PROMISE)
    assert finished.receipts["file"] == Receipt(250, 250, 0, 0)
    assert finished.receipts["well"].dropped == 0
    assert finished.receipts["silent"].captured == 0
    assert finished.receipts["missing"].captured == 0


def test_a_password_is_shown_nowhere(tmp_path: Path, squares: Path, video: Video) -> None:
    with serving(video) as camera:
        url = camera.url("close/30").replace("rtsp://", "rtsp://viewer:Hemlig%2F7@")
        with started(configure(tmp_path, squares, {"cam": {"source": url}})) as daemon:
            daemon.wait_for_status("cam", lambda status: status["reconnects"] >= 2)
            pages = "".join(daemon.get(page)[1] for page in ("/metrics", "/readyz", "/status"))
            arguments = Path(f"/proc/{daemon.process.pid}/cmdline").read_text()
            finished = stop(daemon, STOP_PROMISE)
    shown = pages + arguments + finished.stdout + finished.stderr
    assert "rtsp://***@" in finished.stderr
    assert "Hemlig" not in shown


def an_http_camera() -> Iterator[bytes]:
    """Yield one picture as JPEG, for ever."""
    picture = models.draw((128, 160), (1, (64, 40, 96, 72)))
    yield from repeat(cv2.imencode(".jpg", picture)[1].tobytes())


def test_an_http_camera_takes_the_time_of_arrival(tmp_path: Path, squares: Path) -> None:
    with (
        http_servers.serving({"/video": an_http_camera}) as url,
        started(configure(tmp_path, squares, {"cam": {"source": f"{url}/video"}})) as daemon,
    ):
        daemon.wait_for_frames("cam", 15)
        finished = stop(daemon, STOP_PROMISE)
    found = events(finished, "cam")
    assert {seen["class_id"] for event in found for seen in event["detections"]} == {1}
    steady = found[len(found) // 2 :]
    pace = (steady[-1]["pts"] - steady[0]["pts"]) / (steady[-1]["frame"] - steady[0]["frame"])
    assert pace > 0.07, "FFmpeg would have it at 25 frames per second"

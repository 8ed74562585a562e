"""A source's own packets, recorded while detection can't keep up, and what MP4 can't carry."""

import json
from fractions import Fraction
from pathlib import Path

import av

from tests import clips
from tests.integration.process import SQUARES_SIZE, free_port, started, write_config
from tests.rtsp import moving_square, serving
from tests.sinks import decode, times

FRAMES = 75


def test_a_recording_has_what_detection_leaves_out(tmp_path: Path, squares: Path) -> None:
    clips.count(tmp_path / "clip.mp4", FRAMES, encoding={"g": "25"})
    record = {"video": "source", "path": "{stream}.mp4", "segment": None}
    stream = {"source": "clip.mp4", "detect": {"max_fps": 5}, "record": record}
    config = write_config(tmp_path, {"cam": stream}, model=squares, size=SQUARES_SIZE)
    with started(config) as daemon:
        finished = daemon.finish()
    assert finished.code == 0, finished.stderr
    receipt = finished.receipts["cam"]
    assert receipt.balanced
    assert 10 <= receipt.written <= 20
    assert len(decode(finished.state / "cam.mp4")) == FRAMES
    assert times(finished.state / "cam.mp4")[-1] == Fraction(FRAMES - 1, 25)


def test_a_camera_that_is_copied_in_segments(tmp_path: Path, squares: Path) -> None:
    record = {"video": "source", "path": "{stream}/%Y%m%dT%H%M%S.mp4", "segment": "1s"}
    with serving(moving_square()) as camera:
        stream = {"source": camera.url("play"), "record": record}
        config = write_config(
            tmp_path, {"cam": stream}, model=squares, size=SQUARES_SIZE, port=free_port()
        )
        with started(config) as daemon:
            status = daemon.wait_for_status("cam", lambda s: s["written"]["record"] >= 75)
            assert status["encoder"] == "copy"
            daemon.process.terminate()
            finished = daemon.finish()
    assert finished.code == 0, finished.stderr
    files = sorted((finished.state / "cam").glob("*.mp4"))
    assert len(files) >= 3
    assert all(decode(path)[0].key_frame for path in files)
    assert not list(finished.state.rglob("*.part"))
    assert sum(len(decode(path)) for path in files) >= finished.receipts["cam"].written


def test_a_camera_that_changes_its_codec(tmp_path: Path, squares: Path) -> None:
    """Somebody sets it from H.264 to H.265, and back: each connection has the other one."""
    record = {"video": "source", "path": "{stream}/%H%M%S.mp4"}
    with serving(moving_square()) as camera:
        streams = {
            "copied": {"source": camera.url("recode/25"), "record": record},
            "drawn": {"source": camera.url("recode/50")},
        }
        config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE, port=free_port())
        with started(config) as daemon:
            daemon.wait_for_status("copied", lambda s: s["reconnects"] >= 3)
            daemon.wait_for_status("drawn", lambda s: s["reconnects"] and s["codec"] == "hevc")
            daemon.process.terminate()
            finished = daemon.finish()
    assert finished.code == 0, finished.stderr
    codecs = set()
    for path in (finished.state / "copied").glob("*.mp4"):
        with av.open(str(path)) as file:
            codecs.add(file.streams.video[0].codec_context.name)
        assert decode(path)
    assert codecs == {"h264", "hevc"}
    assert all(receipt.balanced and receipt.written for receipt in finished.receipts.values())


def test_a_codec_that_mp4_can_not_carry(tmp_path: Path, squares: Path) -> None:
    clips.count(tmp_path / "clip.avi", 10, codec="mjpeg", pix_fmt="yuvj420p")
    stream = {"source": "clip.avi", "record": {"video": "source"}}
    config = write_config(tmp_path, {"cam": stream}, model=squares, size=SQUARES_SIZE)
    with started(config) as daemon:
        finished = daemon.finish()
    assert finished.code == 1
    messages = [
        json.loads(line)["message"] for line in finished.stderr.splitlines() if line[:1] == "{"
    ]
    assert any("mjpeg video can't be copied into MP4" in message for message in messages)
    assert finished.receipts["cam"].dropped == 10

"""Streams and files that are well and unusual: all of them is shown, at its time."""

import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from tests import clips
from tests.faults.conftest import RATE, Measure
from tests.faults.evidence import UNRECORDED, Watch, disordered, events, times
from tests.faults.gstreamer import gstreamer
from tests.faults.test_reconnect import until_decoded
from tests.integration.process import Stream, configure, free_port, run, started, stop
from tests.rtsp import Video, moving_square, serving

UNUSUAL = ("sliced", "refreshed")
PARTS = 24  # frames in each recording that is joined
HOUR = 3600 * 90_000
SECONDS = 18.0  # that a camera with wrong stamps is watched
# Seconds, `stall_timeout` there: a lag shows in that time. At four pictures per second, probing
# alone takes most of two.
LIMIT = 3.0


def test_pictures_in_pieces_and_without_key_frames_from_a_real_server(
    tmp_path: Path, squares: Path, measure: Measure
) -> None:
    """GStreamer sends parameter sets before each slice of a key frame, or no key frames"""
    port = free_port()
    streams = {
        name: {"source": f"rtsp://127.0.0.1:{port}/{name}", **UNRECORDED} for name in UNUSUAL
    }
    with gstreamer(port), started(configure(tmp_path, squares, streams)) as daemon:
        daemon.wait_until_reachable()
        for name in UNUSUAL:
            measure("shown", until_decoded(daemon, name))
        for name in UNUSUAL:
            measure("pieces", daemon.wait_for_frames(name, 3 * RATE)["damaged"])
        stop(daemon)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_camera_that_refreshes_its_pictures_is_joined_in_the_middle(
    tmp_path: Path, squares: Path, codec: str, measure: Measure
) -> None:
    """A connection begins in the middle of a camera's gradual intra refresh"""
    video = moving_square(
        rate=RATE, count=200, key_interval=20, codec=codec, parameters="intra-refresh=1"
    )
    sets = {"h264": 2, "hevc": 3}[codec]
    first = [*video.pictures[0][:sets], *video.pictures[33]]
    late = Video([first, *video.pictures[34:]], RATE, codec)
    with serving(late) as camera:
        streams = {"cam": {"source": camera.url("play"), **UNRECORDED}}
        with started(configure(tmp_path, squares, streams)) as daemon:
            daemon.wait_until_reachable()
            measure("shown", until_decoded(daemon, "cam"))
            stop(daemon)


def test_a_camera_with_wrong_stamps_stays_connected(
    tmp_path: Path, squares: Path, video: Video, rounds: int, measure: Measure
) -> None:
    """A camera sends 4, 8 or 15 frames per second with timestamps of ten, or all the same"""
    paths = ("slow/4", "slow/8", "slow/15", "still")
    with serving(video) as camera:
        streams: dict[str, Stream] = {
            path.replace("/", ""): {
                "source": camera.url(path),
                "stall_timeout": f"{LIMIT:g}s",
                **UNRECORDED,
            }
            for path in paths
        }
        with started(configure(tmp_path, squares, streams)) as daemon:
            daemon.wait_for_frames("still", 1)
            with Watch(daemon) as watch:
                threading.Event().wait(SECONDS * min(rounds, 5))
            finished = stop(daemon)
    for name in streams:
        measure("stamps", len(watch.declared[name]))
        measure("time", disordered(events(finished, name)))


@pytest.mark.parametrize(
    "starts",
    [(HOUR, 0), (0, HOUR), (0, 0, 0), (2**33 - 40_000, 0)],
    ids=["back by an hour", "on by an hour", "each from 0", "over the end of the clock"],
)
@pytest.mark.parametrize("video", ["annotated", "source"])
def test_recordings_that_were_joined(
    tmp_path: Path, squares: Path, video: str, starts: Sequence[int], measure: Measure
) -> None:
    """MPEG-TS recordings with unrelated timestamps are concatenated and recorded again"""
    time_base = Fraction(1, 90_000)
    parts = [
        clips.count(
            tmp_path / f"{n}.ts",
            PARTS,
            size=(128, 160),
            pts=[start + i * 3600 for i in range(PARTS)],
            time_base=time_base,
        )
        for n, start in enumerate(starts)
    ]
    joined = clips.joined(tmp_path / "joined.ts", *parts)
    stream = {"source": str(joined), "record": {"path": "out.mp4", "video": video}}
    finished = run(configure(tmp_path, squares, {"file": stream}))
    assert finished.code == 0, finished.stderr
    shown = times(finished.state / "out.mp4")
    expected = PARTS * len(starts)
    measure("joined", expected - len(shown))
    assert shown[-1] - shown[0] < (expected + 5 * len(starts)) / 25

"""Pictures that were decoded from damaged data don't get through from a network."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from daemon.capture.gate import KeyFrameGate
from daemon.capture.video import VideoSource
from daemon.config.secret import SourceUri
from tests.rtsp import Video, moving_square, serving

NOISE = 12  # levels by which a square's edges may differ in another picture's coding


class FakeFrame(NamedTuple):
    """What the gate looks at."""

    key_frame: bool = False
    is_corrupt: bool = False
    pict_type: PictureType = PictureType.P


KEY, PREDICTED = FakeFrame(key_frame=True), FakeFrame()
CORRUPT, CORRUPT_KEY = FakeFrame(is_corrupt=True), FakeFrame(key_frame=True, is_corrupt=True)


def admitted(*frames: FakeFrame) -> list[bool]:
    gate = KeyFrameGate()
    return [gate.admits(cast(VideoFrame, frame)) for frame in frames]


def test_a_connection_begins_with_a_key_frame() -> None:
    assert admitted(PREDICTED, PREDICTED, KEY, PREDICTED) == [False, False, True, True]
    assert admitted(FakeFrame(pict_type=PictureType.I), PREDICTED) == [True, True]


def test_after_damage_all_waits_for_the_next_whole_key_frame() -> None:
    frames = [KEY, CORRUPT, PREDICTED, CORRUPT_KEY, PREDICTED, KEY, PREDICTED]
    assert admitted(*frames) == [True, False, False, False, False, True, True]


def test_a_packet_that_cannot_be_decoded_shuts_the_gate() -> None:
    gate = KeyFrameGate()
    assert gate.admits(cast(VideoFrame, KEY))
    gate.shut()
    assert not gate.admits(cast(VideoFrame, PREDICTED))
    assert gate.admits(cast(VideoFrame, KEY))


@pytest.fixture(scope="module")
def video() -> Video:
    return moving_square(count=100, rate=100)


def pictures(video: Video, path: str, count: int) -> tuple[list[NDArray[np.uint8]], int]:
    """Return so many pictures of a camera, and how many were passed over meanwhile."""
    with serving(video) as camera:
        source = VideoSource(SourceUri(camera.url(path)), timeout=20)
        found = [picture.image.copy() for picture, _ in zip(source, range(count), strict=False)]
        source.close()
    return found, source.damaged


def distances(found: Sequence[NDArray[np.uint8]], whole: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Return by how many levels each picture differs, at most, from the nearest whole one."""
    return [min(int(np.abs(image.astype(int) - w).max()) for w in whole) for image in found]


def test_of_a_lossy_connection_the_broken_pictures_are_held_back(video: Video) -> None:
    """Of 100, 46 are broken without the gate, 8 with it: FFmpeg doesn't tell of all damage."""
    whole, damaged = pictures(video, "play", 100)
    assert damaged == 0
    found, damaged = pictures(video, "lose/5", 100)
    assert damaged > 30
    assert sum(distance > NOISE for distance in distances(found, whole)) <= 15

"""Pictures that were decoded from damaged data don't get through from a network."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from centernetd.capture.video import DamageGate
from tests.capture_rig import video_source
from tests.rtsp import Video, moving_square, serving

NOISE = 12  # levels by which a square's edges may differ in another picture's coding


class FakeFrame(NamedTuple):
    """What the gate looks at."""

    key_frame: bool = False
    is_corrupt: bool = False
    pict_type: PictureType = PictureType.P


KEY, PREDICTED = FakeFrame(key_frame=True), FakeFrame()
CORRUPT, CORRUPT_KEY = FakeFrame(is_corrupt=True), FakeFrame(key_frame=True, is_corrupt=True)


PATIENCE = 5.0


def admitted(
    *frames: FakeFrame, codec: str = "mpeg4", gate: DamageGate | None = None
) -> list[bool]:
    """Return which of these is let through, ten a second."""
    gate = gate or DamageGate(codec, PATIENCE, 0.0)
    return [gate.admits(cast(VideoFrame, frame), n / 10) for n, frame in enumerate(frames)]


def test_a_connection_begins_with_a_key_frame() -> None:
    assert admitted(PREDICTED, PREDICTED, KEY, PREDICTED) == [False, False, True, True]
    assert admitted(FakeFrame(pict_type=PictureType.I), PREDICTED) == [True, True]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_decoders_that_give_nothing_before_it_is_whole_are_believed(codec: str) -> None:
    assert admitted(PREDICTED, PREDICTED, codec=codec) == [True, True]


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
def test_after_damage_all_waits_for_the_next_whole_key_frame(codec: str) -> None:
    frames = [KEY, CORRUPT, PREDICTED, CORRUPT_KEY, PREDICTED, KEY, PREDICTED]
    assert admitted(*frames, codec=codec) == [True, False, False, False, False, True, True]


def test_a_packet_that_cannot_be_decoded_shuts_the_gate() -> None:
    gate = DamageGate("h264", PATIENCE, 0.0)
    assert admitted(KEY, gate=gate) == [True]
    gate.shut(0.0)
    assert admitted(PREDICTED, KEY, PREDICTED, gate=gate) == [False, True, True]
    assert gate.held_back == 1


def test_errors_fade_where_no_key_frame_comes() -> None:
    late = [False] * 50 + [True] * 10
    assert admitted(*[PREDICTED] * 60) == late
    assert admitted(CORRUPT, *[PREDICTED] * 59, codec="h264") == late
    again = [*[PREDICTED] * 30, CORRUPT, *[PREDICTED] * 59]
    assert admitted(*again) == [False] * 30 + late


def test_pictures_are_whole_after_a_refresh_that_no_damage_interrupts() -> None:
    gate = DamageGate("h264", PATIENCE, 0.0)
    gate.reach_recovery_point()
    assert admitted(CORRUPT, gate=gate) == [False]
    gate.reach_recovery_point()
    assert admitted(PREDICTED, gate=gate) == [False]
    gate.reach_recovery_point()
    assert admitted(PREDICTED, gate=gate) == [True]
    assert admitted(CORRUPT, PREDICTED, gate=gate) == [False, False]


def test_only_a_decoder_that_waits_too_long_is_overruled() -> None:
    for codec in ("h264", "mpeg4"):
        assert not DamageGate(codec, PATIENCE, 0.0).overrules_decoder(10 * PATIENCE)
    gate = DamageGate("hevc", PATIENCE, 0.0)
    assert not gate.overrules_decoder(PATIENCE - 0.1)
    assert gate.overrules_decoder(PATIENCE)
    assert admitted(*[CORRUPT] * 3, gate=DamageGate("hevc", 0.0, 0.0)) == [True, True, True]


def test_a_decoder_that_was_overruled_is_heard_again_once_it_gives_pictures_unmarked() -> None:
    gate = DamageGate("hevc", 0.1, -1.0)
    assert admitted(CORRUPT, PREDICTED, CORRUPT, gate=gate) == [True, True, False]
    assert not gate.overrules_decoder(1000.0)


@pytest.fixture(scope="module")
def video() -> Video:
    return moving_square(count=100, rate=100)


def pictures(video: Video, path: str, count: int) -> tuple[list[NDArray[np.uint8]], int]:
    """Return ``count`` pictures of a camera, and the number passed over meanwhile."""
    with serving(video) as camera:
        source = video_source(camera.url(path), 20)
        found = [
            picture.image.pixels().copy() for picture, _ in zip(source, range(count), strict=False)
        ]
        source.close()
    return found, source.damaged


def distances(found: Sequence[NDArray[np.uint8]], whole: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Return by how many levels each picture differs, at most, from the nearest whole one."""
    return [min(int(np.abs(image.astype(int) - w).max()) for w in whole) for image in found]


def test_of_a_lossy_connection_the_broken_pictures_are_held_back(video: Video) -> None:
    """Of 100, 46 are broken without the gate, 8 with it: FFmpeg doesn't report all damage."""
    whole, damaged = pictures(video, "play", 100)
    assert damaged == 0
    found, damaged = pictures(video, "lose/5", 100)
    assert damaged > 30
    assert sum(distance > NOISE for distance in distances(found, whole)) <= 15

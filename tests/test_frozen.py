"""A picture that doesn't change is noticed, a still scene is not taken for one."""

import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from itertools import cycle, islice, repeat

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.capture.intake import FROZEN_AFTER, FrozenPicture, Intake
from centernetd.capture.source import Picture, SourceInfo
from centernetd.capture.video import is_key
from centernetd.config import StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.flow import Arrivals, Backpressure, HostImage, Lane, Meters
from tests.footage import Rate, encoded

Image = NDArray[np.uint8]
STILL = np.random.default_rng(1).integers(0, 256, (1080, 64, 3), np.uint8)
RATE = 5  # pictures a second, and a key frame in each: what encoders make doesn't hang on it
LONG = 3 * FROZEN_AFTER


def frozen_after(
    pictures: Iterable[tuple[Image, bool]], fps: float, seconds: float
) -> float | None:
    """Return when the first was called frozen, if it was; each is a picture and whether a key."""
    watching = FrozenPicture()
    for index, (image, key) in enumerate(islice(pictures, int(seconds * fps))):
        if watching.check(HostImage(image), 1000 + index / fps, is_key=key):
            return index / fps
    return None


def over_and_over(*images: Image) -> Iterator[tuple[Image, bool]]:
    return ((image, True) for image in cycle(images))


def coded(images: Iterable[Image], rate: Rate) -> Iterator[tuple[Image, bool]]:
    """Encode pictures, a key frame a second, and decode them again."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    for packet in [*encoded(images, RATE, key_interval=RATE, keeps=rate), None]:
        for frame in decoder.decode(packet):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), is_key(frame)


@cache
def scene() -> Image:
    """Return what a camera looks at: areas, edges and texture."""
    rough = np.random.default_rng(2).integers(40, 200, (12, 16, 3), np.uint8)
    return np.kron(rough, np.ones((10, 10, 1), np.uint8))


def with_noise(levels: float) -> Iterator[Image]:
    """Yield the scene as a sensor sees it, for ever."""
    random = np.random.default_rng(3)
    while True:
        seen = scene() + random.normal(0, levels, scene().shape)
        yield np.clip(seen.round(), 0, 255).astype(np.uint8)


COUNT = int(LONG * RATE)
RATES: dict[str, Rate] = {
    "20 kbit/s": {"bit_rate": 20_000},
    "100 kbit/s": {"bit_rate": 100_000},
    "1 Mbit/s": {"bit_rate": 1_000_000},
    "quality 23": {"crf": 23},
    "quality 38": {"crf": 38},
}


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_an_encoder_that_repeats_one_picture_is_noticed_whatever_its_rate(rate: Rate) -> None:
    found = frozen_after(coded(repeat(scene(), COUNT), rate), RATE, LONG)
    assert found is not None
    assert found >= FROZEN_AFTER


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
@pytest.mark.parametrize("levels", [0.5, 2.0])
def test_a_still_scene_has_noise_that_no_encoder_hides(rate: Rate, levels: float) -> None:
    assert frozen_after(coded(islice(with_noise(levels), COUNT), rate), RATE, LONG) is None


def test_one_picture_over_and_over_is_frozen() -> None:
    for fps in (1, 12.5, 30):
        found = frozen_after(over_and_over(STILL), fps, 2 * FROZEN_AFTER)
        assert found is not None
        assert FROZEN_AFTER <= found <= FROZEN_AFTER + 2


def test_a_loop_that_lasts_a_second_is_not_frozen() -> None:
    """One picture a second would always be the same one of it."""
    loop = [STILL, *[np.roll(STILL, n, axis=1) for n in range(1, 25)]]
    assert frozen_after(over_and_over(*loop), 25, 2 * FROZEN_AFTER) is None


def refreshed(images: Iterable[Image], rate: Rate) -> Iterator[tuple[Image, bool]]:
    """Encode pictures without key frames but the first, and decode them again."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    parameters = "intra-refresh=1:threads=1:sync-lookahead=0"  # the same result at every run
    coded = encoded(images, RATE, key_interval=RATE, keeps=rate, parameters=parameters)
    for packet in [*coded, None]:
        for frame in decoder.decode(packet):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), is_key(frame)


def test_without_key_frames_any_picture_is_looked_at_in_the_end() -> None:
    found = frozen_after(((STILL, n == 0) for n in range(1000)), 5, 200)
    assert found is not None
    assert 60 <= found <= 62
    found = frozen_after(refreshed(repeat(scene(), 150 * RATE), {"crf": 23}), RATE, 150)
    assert found is not None


def test_where_key_frames_are_rare_only_they_are_looked_at() -> None:
    """What a hung encoder makes between them never comes to rest."""
    rough = [np.roll(STILL, n, axis=1) for n in range(50)]
    rare = ((STILL if n % 250 == 0 else rough[n % 50], n % 250 == 0) for n in range(1000))
    assert frozen_after(rare, 5, 200) is not None


@pytest.mark.parametrize("rate", [{"bit_rate": 20_000}, {"crf": 23}, {"crf": 38}], ids=str)
def test_a_still_scene_without_key_frames_is_not_frozen(rate: Rate) -> None:
    count = 130 * RATE
    assert frozen_after(refreshed(islice(with_noise(0.5), count), rate), RATE, 130) is None


def test_a_clock_in_the_picture_is_seen_wherever_it_is() -> None:
    for top in (0, 501, 1040):
        clock = []
        for second in range(60):
            picture = STILL.copy()
            picture[top : top + 20, 2:12] = 4 * second
            clock.append(picture)
        assert frozen_after(over_and_over(*clock), 1, 2 * FROZEN_AFTER) is None


def test_it_thaws_with_the_next_key_frame() -> None:
    watching = FrozenPicture()
    for second in range(int(FROZEN_AFTER) + 2):
        frozen = watching.check(HostImage(STILL), float(second), is_key=True)
    assert frozen
    other = STILL[:, ::-1]
    assert watching.check(HostImage(other), FROZEN_AFTER + 10, is_key=False)
    assert not watching.check(HostImage(other), FROZEN_AFTER + 11, is_key=True)


def test_any_size_will_do() -> None:
    for shape in ((1, 1, 3), (17, 1023, 3), (127, 2, 3)):
        watching = FrozenPicture()
        padded = np.zeros((shape[0], shape[1] + 5, 3), np.uint8)[:, : shape[1]]
        assert not watching.check(HostImage(padded), 0.0, is_key=True)
        assert watching.check(HostImage(padded), FROZEN_AFTER, is_key=True)


class Watched(HostImage):
    """Notes whether its frame waited in the lane when it was looked at."""

    def __init__(self, lane: Lane, *, on_gpu: bool) -> None:
        super().__init__(STILL)
        self.lane, self.on_gpu = lane, on_gpu
        self.offered: list[bool] = []

    def lines(self, step: int) -> NDArray[np.uint8]:
        self.offered.append(self.lane.waiting > 0)
        return super().lines(step)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_only_a_picture_that_sinks_draw_on_is_looked_at_first(on_gpu: bool) -> None:
    """Copying lines from the GPU takes milliseconds, for which the frame should not wait."""
    arrivals = {"m": Arrivals()}
    lane = Lane("s", Backpressure.DROP_OLDEST, depth=8, inbox=2, arrivals=arrivals, sinks=[])
    config = StreamConfig("s", SourceUri("rtsp://camera/"), policy="live")
    intake = Intake(config, lane, Meters(), threading.Event())
    tick = Fraction(1, 90_000)
    intake.connected(SourceInfo("h264", "h264", tick))
    image = Watched(lane, on_gpu=on_gpu)
    intake.take(Picture(image, 0, tick, 0.0))
    assert image.offered == [on_gpu]

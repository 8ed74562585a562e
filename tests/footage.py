"""What scripted cameras show, encoded."""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import repeat
from typing import TypedDict

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests import models
from tests.rtp import Video

Image = NDArray[np.uint8]
_START_CODE = re.compile(rb"\x00{2,3}\x01")
_ENCODERS = {"h264": "libx264", "hevc": "libx265"}
_SETTLED = 10  # seconds after which an encoder has found what a still picture costs


class Rate(TypedDict, total=False):
    """What an encoder keeps to: constant bits a second, or a quality (x264's rate factor)."""

    bit_rate: int
    crf: int


def encoded(
    images: Iterable[Image],
    rate: int,
    *,
    key_interval: int,
    codec: str = "h264",
    keeps: Rate,
    parameters: str = "",
) -> Iterator["Packet[VideoStream]"]:
    """Encode pictures of one size, ``rate`` a second, as cameras do: without delay.

    ``parameters`` are x264's or x265's own.
    """
    encoder = None
    for index, image in enumerate(images):
        if encoder is None:
            encoder = _encoder(image.shape, rate, key_interval, codec, keeps, parameters)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts = index
        yield from encoder.encode(frame)
    if encoder is not None:
        yield from encoder.encode(None)


def _encoder(
    shape: tuple[int, ...], rate: int, key_interval: int, codec: str, keeps: Rate, parameters: str
) -> av.VideoCodecContext:
    encoder = av.CodecContext.create(_ENCODERS[codec], "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width, _ = shape
    encoder.pix_fmt, encoder.time_base, encoder.framerate = (
        "yuv420p",
        Fraction(1, rate),
        Fraction(rate),
    )
    encoder.gop_size, encoder.max_b_frames = key_interval, 0
    options = {"tune": "zerolatency", "preset": "ultrafast"}
    if codec == "hevc":
        options["x265-params"] = f"log-level=none:{parameters}"
    elif parameters:
        options["x264-params"] = parameters
    if "crf" in keeps:
        options["crf"] = str(keeps["crf"])
    if "bit_rate" in keeps:
        encoder.bit_rate = keeps["bit_rate"]
        bits = str(keeps["bit_rate"])
        options |= {"nal-hrd": "cbr", "maxrate": bits, "bufsize": bits}
    encoder.options = options
    return encoder


def video_of(packets: Iterable["Packet[VideoStream]"], rate: int, codec: str = "h264") -> Video:
    """Return what was encoded as a camera sends it."""
    units = [[unit for unit in _START_CODE.split(bytes(packet)) if unit] for packet in packets]
    return Video(units, rate, codec)


def moving_square(
    size: tuple[int, int] = (128, 160),
    count: int = 50,
    rate: int = 25,
    key_interval: int = 10,
    codec: str = "h264",
    parameters: str = "",
) -> Video:
    """Encode a red square that goes down the picture."""
    images = (_square(size, 24 + index % 50) for index in range(count))
    packets = encoded(
        images, rate, key_interval=key_interval, codec=codec, keeps={}, parameters=parameters
    )
    return video_of(packets, rate, codec)


def standing_still(rate: int, key_interval: int = 10) -> Video:
    """Encode the square repeatedly in the same place, at a constant bit rate."""
    images = repeat(_square((128, 160), 24), 2 * _SETTLED * rate)
    packets = list(encoded(images, rate, key_interval=key_interval, keeps={"bit_rate": 100_000}))
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    return video_of(packets[next(key for key in keys if key >= _SETTLED * rate) :], rate)


def _square(size: tuple[int, int], top: int) -> Image:
    return models.draw(size, (0, (64, top, 96, top + 32)))

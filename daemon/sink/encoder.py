"""Pictures to H.264: the choice of an encoder, its settings, and colours that stay right."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.errors import SinkError

log = logging.getLogger(__name__)

NVIDIA_DEVICE = Path("/dev/nvidia0")
NOMINAL_RATE = 30  # for the level the encoder declares; times come from the frames' pts
KEY_INTERVAL = 1  # seconds
THREADS = 2

# Measured on the demo (720p), two slice threads, crf 23; CPU time a frame, size, luma PSNR:
#   ultrafast  5.0 ms  475 kB/s  46.9 dB
#   superfast  6.7 ms  184 kB/s  47.4 dB
#   veryfast  11.3 ms  163 kB/s  47.1 dB
X264 = {"preset": "superfast", "crf": "23", "tune": "zerolatency", "forced-idr": "1"}
NVENC = {
    "preset": "p4",
    "tune": "ll",
    "rc": "vbr",
    "cq": "25",
    "bf": "0",
    "delay": "0",
    "zerolatency": "1",
    "forced-idr": "1",
}


class EncoderError(SinkError):
    """The encoder doesn't open, or failed; another may do."""


def choose_encoder(codec: str, width: int, height: int) -> str:
    """Return the encoder's name for ``codec``, a name or "auto".

    "auto" is the GPU's encoder where it proves to encode pictures of this size now (there may
    be none, or all its sessions may be taken), else x264.
    """
    if codec != "auto":
        return codec
    if NVIDIA_DEVICE.exists() and _encodes("h264_nvenc", width, height):
        return "h264_nvenc"
    return "libx264"


class Encoder:
    """One video stream of a container, encoded without B-frames and without look-ahead.

    BGR pictures of one size go in, odd sizes padded to even by repeating the edge; BT.709 in
    limited range comes out, converted and tagged. A key frame comes at least once a second.
    """

    def __init__(
        self, container: OutputContainer, name: str, width: int, height: int, time_base: Fraction
    ) -> None:
        """Add the stream and open the encoder, or raise EncoderError."""
        with _telling(name):
            self._stream = _add_stream(container, name, width, height, time_base)
        self._name = name
        self._time_base = time_base
        self._reformatter = VideoReformatter()
        self._last_key: int | None = None
        self._last_pts: int | None = None
        self._interval = max(1, int(1 / NOMINAL_RATE / time_base))

    def encode(self, image: NDArray[np.uint8], pts: int) -> list["Packet[VideoStream]"]:
        """Encode one picture at ``pts`` time bases; returns the packets that are ready.

        Raises
        ------
        EncoderError
            When the encoder fails.
        """
        with _telling(self._name):
            frame = self._convert(image)
            frame.pts = pts
            frame.time_base = self._time_base
            if self._last_key is None or (pts - self._last_key) * self._time_base >= KEY_INTERVAL:
                frame.pict_type = PictureType.I
                self._last_key = pts
            packets = self._stream.encode(frame)
        if self._last_pts is not None:
            self._interval = pts - self._last_pts
        self._last_pts = pts
        return self._timed(packets)

    def flush(self) -> list["Packet[VideoStream]"]:
        """Return the packets of the frames that were still held, or raise EncoderError."""
        with _telling(self._name):
            return self._timed(self._stream.encode(None))

    def _timed(self, packets: list["Packet[VideoStream]"]) -> list["Packet[VideoStream]"]:
        """Give each packet the latest interval as its duration: the last frame's lasts."""
        for packet in packets:
            packet.duration = self._interval
        return packets

    def _convert(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        return self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(_even(image), format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )


def _add_stream(
    container: OutputContainer, name: str, width: int, height: int, time_base: Fraction
) -> VideoStream:
    stream = cast(
        "VideoStream",
        container.add_stream(
            name,
            rate=NOMINAL_RATE,
            options=NVENC if name.endswith("nvenc") else X264,
            width=width + width % 2,
            height=height + height % 2,
            time_base=time_base,
        ),
    )
    context = stream.codec_context
    context.thread_count = THREADS
    context.thread_type = "SLICE"  # frame threads would hold frames back
    context.max_b_frames = 0
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.open()
    return stream


@contextmanager
def _telling(name: str) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise EncoderError(f"{name} can't encode: {error}") from error


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bottom, right = image.shape[0] % 2, image.shape[1] % 2
    if not bottom and not right:
        return image
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)


def _encodes(name: str, width: int, height: int) -> bool:
    black = np.zeros((height, width, 3), np.uint8)
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as container:
            encoder = Encoder(container, name, width, height, Fraction(1, NOMINAL_RATE))
            return bool(encoder.encode(black, 0) + encoder.flush())
    except EncoderError as error:
        log.info("%dx%d: %s", width, height, error)
        return False

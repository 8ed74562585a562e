"""Encoding pictures to H.264: choice of encoder, settings, and correct colours."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import cv2
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from centernetd.cuda import has_nvidia_device
from centernetd.errors import SinkError
from centernetd.flow import Coding, Packet

log = logging.getLogger(__name__)

NOMINAL_RATE = 30  # for the level the encoder declares; times are the frames' pts
KEY_INTERVAL = 1  # seconds
THREADS = 2

# Measured on the demo (720p), two slice threads, crf 23; CPU time per frame, size, luma PSNR:
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
    """The encoder does not open or failed; another may work."""


def choose_encoder(codec: str, width: int, height: int, device: int = 0) -> str:
    """Return the encoder's name for ``codec``, a name or "auto".

    "auto" selects that of GPU ``device`` if a trial at this size succeeds (it may lack an encoder
    or a free session), else x264.
    """
    if codec != "auto":
        return codec
    if not has_nvidia_device():
        return "libx264"
    try:
        try_encoder("h264_nvenc", width, height, device)
    except EncoderError as error:
        log.info("%dx%d: %s", width, height, error)
        return "libx264"
    return "h264_nvenc"


def try_encoder(name: str, width: int, height: int, device: int = 0) -> None:
    """Encode a black picture of this size, or raise `EncoderError`."""
    black = np.zeros((height, width, 3), np.uint8)
    encoder = Encoder(name, width, height, Fraction(1, NOMINAL_RATE), device=device)
    encoder.encode(black, 0)
    encoder.flush()


class Encoder:
    """Encodes pictures of one size without B-frames and without look-ahead.

    The input is BGR, padded to even sizes by repeating the edge. The output is BT.709 in limited
    range, converted and tagged, with a key frame and its parameter sets at least every second.
    """

    def __init__(
        self,
        name: str,
        width: int,
        height: int,
        time_base: Fraction,
        *,
        number: int = 0,
        aspect: Fraction = Fraction(1),
        device: int = 0,
    ) -> None:
        """Open the encoder, or raise EncoderError.

        ``number`` is that of the preceding packet, ``aspect`` a pixel's width over its height,
        ``device`` the number of the GPU used by a GPU encoder.
        """
        with _as_encoder_error(name):
            self._context = _open(name, width, height, time_base, aspect, device)
        self._name = name
        self._time_base = time_base
        self.coding = Coding(
            self._context.codec.canonical_name,
            self._context.width,
            self._context.height,
            aspect=aspect,
            colours=(ColorRange.MPEG, Colorspace.ITU709, ColorPrimaries.BT709, ColorTrc.BT709),
        )
        self._reformatter = VideoReformatter()
        self._wall_times: deque[float] = deque()  # the wall times of the frames in the encoder
        self._last_key: int | None = None
        self._last_pts: int | None = None
        self._interval = max(1, int(1 / NOMINAL_RATE / time_base))
        self._number = number

    def encode(
        self, image: NDArray[np.uint8], pts: int, wall_time: float = 0.0, *, key: bool = False
    ) -> list[Packet]:
        """Encode one picture at ``pts`` time bases; return the packets that are ready.

        ``key`` requests a key frame.

        Raises
        ------
        EncoderError
            When the encoder fails.
        """
        with _as_encoder_error(self._name):
            frame = self._convert(image)
            frame.pts = pts
            frame.time_base = self._time_base
            due = self._last_key is None or (pts - self._last_key) * self._time_base >= KEY_INTERVAL
            if key or due:
                frame.pict_type = PictureType.I
                self._last_key = pts
            self._wall_times.append(wall_time)
            packets = self._context.encode(frame)
        if self._last_pts is not None:
            self._interval = pts - self._last_pts
        self._last_pts = pts
        return [self._packet(packet) for packet in packets]

    def flush(self) -> list[Packet]:
        """Return the packets of the frames still in the encoder, or raise EncoderError."""
        with _as_encoder_error(self._name):
            return [self._packet(packet) for packet in self._context.encode(None)]

    def _packet(self, packet: "av.Packet[VideoStream]") -> Packet:
        """Copy a packet; its duration is the latest interval, as assumed for the last frame."""
        self._number += 1
        pts = 0 if packet.pts is None else packet.pts
        return Packet(
            number=self._number,
            data=bytes(packet),
            pts=pts,
            dts=pts,
            duration=self._interval,
            time_base=self._time_base,
            is_keyframe=packet.is_keyframe,
            wall_time=self._wall_times.popleft(),
            coding=self.coding,
        )

    def _convert(self, image: NDArray[np.uint8]) -> av.VideoFrame:
        return self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(_even(image), format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )


def _open(
    name: str, width: int, height: int, time_base: Fraction, aspect: Fraction, device: int
) -> av.VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    if not isinstance(context, av.VideoCodecContext):
        raise ValueError("it is not a video encoder")  # noqa: TRY004 (converted by _as_encoder_error)
    context.width, context.height = width + width % 2, height + height % 2
    context.sample_aspect_ratio = aspect
    context.pix_fmt = "yuv420p"
    context.time_base = time_base
    context.framerate = Fraction(NOMINAL_RATE)
    context.options = _options(name, device)
    context.thread_count = THREADS
    context.thread_type = "SLICE"  # frame threads would delay frames
    context.max_b_frames = 0
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.open()
    return context


def _options(name: str, device: int) -> dict[str, str]:
    return {**NVENC, "gpu": str(device)} if name.endswith("nvenc") else X264


@contextmanager
def _as_encoder_error(name: str) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise EncoderError(f"{name} can't encode: {_reason_of(name, error)}") from error


def _reason_of(name: str, error: av.FFmpegError | ValueError) -> str:
    """Return why an encoder failed, without the call and its options, which FFmpegError repeats."""
    if name.endswith("nvenc") and not has_nvidia_device():
        return "there is no NVIDIA GPU"
    if isinstance(error, UnknownCodecError):
        return "PyAV's FFmpeg does not have this encoder"
    if isinstance(error, av.FFmpegError):
        return (error.strerror or "no reason given").lower()
    return str(error)


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bottom, right = image.shape[0] % 2, image.shape[1] % 2
    if not bottom and not right:
        return image
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)

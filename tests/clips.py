"""Small test videos of every awkward kind, made with PyAV alone."""

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]
RED, GREEN, BLUE, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)  # BGR

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
BT2020 = 9  # AVCOL_SPC_BT2020_NCL
_LUMA: dict[int, tuple[float, float, float]] = {  # of red, green, blue: ITU-R BT.601, 709, 2020
    Colorspace.ITU601: (0.299, 0.587, 0.114),
    Colorspace.ITU709: (0.2126, 0.7152, 0.0722),
    BT2020: (0.2627, 0.678, 0.0593),
}


def corners(size: tuple[int, int]) -> Image:
    """Return a picture (height, width) of four colours: red, green; blue, white."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, WHITE
    return image


_FARTHEST = 9  # levels between a colour that went in and the one that came out
_COLOURS = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}
# a, b, c, d of the matrix of each way to show a picture, and what `quarters` are of `corners` then.
ORIENTATIONS: dict[str, tuple[tuple[int, int, int, int], str]] = {
    "upright": ((1, 0, 0, 1), "RG BW"),
    "mirrored": ((-1, 0, 0, 1), "GR WB"),
    "upside-down": ((-1, 0, 0, -1), "WB GR"),
    "flipped": ((1, 0, 0, -1), "BW RG"),
    "left": ((0, -1, 1, 0), "GW RB"),
    "right": ((0, 1, -1, 0), "BR WG"),
    "transposed": ((0, 1, 1, 0), "RB GW"),
    "transversed": ((0, -1, -1, 0), "WG BR"),
}


def quarters(image: Image) -> str:
    """Return the initials of the colours of a picture's quarters: upper row, lower row."""
    height, width, _ = image.shape

    def colour(y: int, x: int) -> str:
        seen = image[y, x].astype(int)
        near = [n for n, bgr in _COLOURS.items() if np.abs(seen - bgr).max() <= _FARTHEST]
        return near[0] if near else str(seen)

    rows = ([colour(y, x) for x in (width // 4, -width // 4)] for y in (height // 4, -height // 4))
    return " ".join("".join(row) for row in rows)


def numbered(number: int, size: tuple[int, int]) -> Image:
    """Return a grey picture whose brightness encodes its number: see `number_of`."""
    return np.full((*size, 3), 20 + 8 * (number % 25), np.uint8)


def number_of(image: Image) -> int:
    return round((float(image.mean()) - 20) / 8)


def write(
    path: Path,
    images: Iterable[Image],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    matrix: int = Colorspace.ITU601,
    tagged: bool = False,
    full_range: bool = False,
    aspect: Fraction | None = None,
    muxing: dict[str, str] | None = None,
    encoding: dict[str, str] | None = None,
) -> Path:
    """Encode pictures of one size; ``pts`` counts ``time_base`` seconds, 0, 1, 2 ... by default.

    They are converted with ``matrix``, which the file names if it is ``tagged``. ``aspect`` is the
    width of a pixel over its height.
    """
    images = list(images)
    height, width, _ = images[0].shape
    with av.open(str(path), "w", format=container, options=muxing or {}) as output:
        stream = output.add_stream(codec, rate=25, options=encoding or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.colorspace = named = int(matrix) if tagged else _UNSPECIFIED
        if full_range:
            stream.codec_context.color_range = ColorRange.JPEG
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, image in enumerate(images):
            frame = _to_yuv(image, matrix, full_range).reformat(format=pix_fmt)
            frame.colorspace = named
            frame.pts, frame.time_base = number if pts is None else pts[number], time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def _to_yuv(image: Image, matrix: int, full_range: bool) -> VideoFrame:
    """Convert by the book: FFmpeg's own conversion is off by up to 3 levels."""
    blue, green, red = np.moveaxis(image / 255.0, 2, 0)
    of_red, of_green, of_blue = _LUMA[matrix]
    luma = of_red * red + of_green * green + of_blue * blue
    chroma = [(blue - luma) / (1 - of_blue), (red - luma) / (1 - of_red)]
    least, luma_span, chroma_span = (0, 255, 127.5) if full_range else (16, 219, 112)
    planes = np.stack([least + luma_span * luma, *(128 + chroma_span * part for part in chroma)])
    planes = planes.round().clip(0, 255).astype(np.uint8)
    frame = VideoFrame.from_ndarray(planes, format="yuv444p")
    frame.colorspace = int(matrix)
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    return frame


def count(path: Path, frames: int, size: tuple[int, int] = (48, 64), **options: object) -> Path:
    """Write a video whose pictures are numbered."""
    return write(path, (numbered(n, size) for n in range(frames)), **options)  # type: ignore[arg-type]


def blocks(path: Path, size: tuple[int, int], *, pix_fmt: str = "yuv420p") -> Path:
    """Write some pictures of random blocks as a bare stream, reordered: the suffix is the codec."""
    random = np.random.default_rng(0)
    height, width = size
    images = [
        random.integers(0, 256, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for _ in range(8)
    ]
    codec = {".h264": "libx264", ".hevc": "libx265"}[path.suffix]
    encoding = {"bf": "3"} if path.suffix == ".h264" else {"x265-params": "log-level=none"}
    return write(path, images, codec=codec, pix_fmt=pix_fmt, encoding=encoding)


def changing(path: Path) -> Path:
    """Write `corners` as a bare H.265 stream whose size, depth, matrix and range change."""
    parts = [
        write(
            path.with_name(f"part-{number}.hevc"),
            [corners(size)] * 5,
            codec="libx265",
            pix_fmt=pix_fmt,
            matrix=matrix,
            tagged=True,
            full_range=full_range,
            encoding={"x265-params": "log-level=none"},
        )
        for number, (size, pix_fmt, matrix, full_range) in enumerate(
            [
                ((256, 320), "yuv420p", Colorspace.ITU601, False),
                ((256, 320), "yuv420p", Colorspace.ITU709, True),
                ((256, 320), "yuv420p10le", BT2020, False),
                ((320, 256), "yuv420p", BT2020, True),
                ((192, 256), "yuv420p10le", Colorspace.ITU709, False),
            ]
        )
    ]
    return joined(path, *parts)


Crop = tuple[int, int, int, int]
"""Rows at the top, columns at the left, rows at the bottom, columns at the right."""


def cropped(path: Path, source: Path, crop: Crop) -> Path:
    """Write the bare stream ``source`` with parameter sets that crop it."""
    sides = zip(("top", "left", "bottom", "right"), crop, strict=True)
    options = ":".join(f"crop_{side}={pixels}" for side, pixels in sides)
    return remuxed(path, source, filtered=f"{path.suffix[1:]}_metadata={options}")


def noise(path: Path, frames: int = 50, **options: object) -> Path:
    """Write a video that doesn't compress, so that every cut goes through a picture."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(frames)]
    return write(path, images, **options)  # type: ignore[arg-type]


def jpeg(path: Path, width: int, height: int) -> Path:
    """Write a picture of one colour."""
    # Not FFmpeg's encoder: it allocates more in one piece than the daemon allows in its process.
    coded, content = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))
    assert coded
    path.write_bytes(content.tobytes())
    return path


def truncated(path: Path, share: float) -> Path:
    """Cut a file off after this share of it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Join files end to end, which MPEG-TS and bare streams allow."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        assert isinstance(stream, AudioStream)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.rate = 8000
        output.mux(stream.encode(silence))
        output.mux(stream.encode())
    return path


def with_sound(path: Path, frames: int, seconds: float) -> Path:
    """Write numbered pictures, 25 per second, with sound of the given length."""
    silent = count(path.with_name(f"silent{path.suffix}"), frames)
    codec = "aac"
    with av.open(str(silent)) as pictures, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(pictures.streams.video[0])
        sound = output.add_stream(codec, rate=8000, layout="mono")
        assert isinstance(sound, AudioStream)
        packets = [packet for packet in pictures.demux() if packet.size]
        for packet in packets:
            packet.stream = video
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        heard.rate = 8000
        for number in range(round(seconds * 8000 / 1024)):
            heard.pts = number * 1024
            packets += sound.encode(heard)
        packets += sound.encode()
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            output.mux(packet)
    return path


def song_with_cover(path: Path) -> Path:
    """Write an MP4 with sound and a picture that is attached to it."""
    parts = audio_only(path.with_suffix(".m4a")), path.with_suffix(".mkv")
    write(parts[1], [corners((48, 64))], codec="mjpeg", pix_fmt="yuvj420p")
    with (
        av.open(str(parts[0])) as song,
        av.open(str(parts[1])) as cover,
        av.open(str(path), "w") as output,
    ):
        sound = output.add_stream_from_template(song.streams[0])
        picture = output.add_stream_from_template(cover.streams[0])
        picture.disposition = Disposition.attached_pic
        for part, stream in ((song, sound), (cover, picture)):
            for packet in part.demux():
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    return path


_TURNS = {0: "upright", 90: "left", 180: "upside-down", 270: "right"}


def rotate(path: Path, angle: int) -> Path:
    """Mark the pictures of an MP4 to be turned counter-clockwise by ``angle``."""
    return orient(path, ORIENTATIONS[_TURNS[angle]][0])


def orient(path: Path, matrix: Sequence[float]) -> Path:
    """Set how the pictures of an MP4 are to be shown: a, b, c, d of the matrix.

    Rewrites that in the video's track header: ISO/IEC 14496-12, 8.3.2.
    """
    content = bytearray(path.read_bytes())
    box = content.index(b"tkhd")
    start = box + 4 + (52 if content[box + 4] else 40)  # version 1 has longer times
    a, b, c, d = (round(n * (1 << 16)) for n in matrix)
    struct.pack_into(">9i", content, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def trim(path: Path, *shown: tuple[Fraction, Fraction]) -> Path:
    """Set in an MP4 that only what is between these times (seconds) is to be shown.

    Rewrites its edit list: ISO/IEC 14496-12, 8.6.6. Its pictures must precede its header.
    """
    with av.open(str(path)) as container:
        time_base = Fraction(container.streams.video[0].time_base or 0)
    content = bytearray(path.read_bytes())
    box = content.index(b"elst") - 4
    (size, media_time) = struct.unpack_from(">I16xi", content, box)
    edits = b"".join(
        struct.pack(
            ">IiI", round((end - start) * 1000), media_time + round(start / time_base), 1 << 16
        )
        for start, end in shown
    )
    content[box : box + size] = (
        struct.pack(">I4sII", 16 + len(edits), b"elst", 0, len(shown)) + edits
    )
    for parent in (b"edts", b"trak", b"moov"):
        at = content.index(parent) - 4
        (before,) = struct.unpack_from(">I", content, at)
        struct.pack_into(">I", content, at, before + 16 + len(edits) - size)
    path.write_bytes(content)
    return path


def remuxed(
    path: Path, source: Path, *, aspect: Fraction | None = None, filtered: str = "null"
) -> Path:
    """Write the packets of ``source`` through a bitstream filter, with container metadata."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream, opaque=True)
        through = BitStreamFilterContext(filtered, stream, copy)
        if aspect is not None:
            copy.codec_context.sample_aspect_ratio = aspect
        for packet in container.demux(stream):
            for each in through.filter(packet if packet.size else None):
                each.stream = copy
                output.mux(each)
    return path

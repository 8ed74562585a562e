"""The codecs that recordings and cameras need, each actually tried."""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from centernetd.bench.clip import Clip
from centernetd.capture.decoding import try_gpu
from centernetd.capture.open import open_stream
from centernetd.config import SourceUri, StreamConfig
from centernetd.config.sections import Decode
from centernetd.doctor.finding import Finding, Level
from centernetd.errors import SinkError, SourceError

_SIDE = 256  # pixels; NVIDIA's encoders reject less than about 150
_TIMEOUT = 5.0
_FFMPEG = "pip install --force-reinstall av"


def codecs() -> Iterator[Finding]:
    """Encode a frame with each encoder; decode x264's output in software and on the GPU."""
    with tempfile.TemporaryDirectory(prefix="centernetd-doctor-") as folder:
        clip = Path(folder) / "x264.mp4"
        problem = _encode("libx264", clip)
        yield _judge("encoder libx264", problem, Level.MISSING, _FFMPEG)
        broken = problem or _decode(clip, "cpu")
        yield _judge("decoder h264", broken, Level.MISSING, _FFMPEG)
        problem = problem or try_gpu(0) or _decode(clip, "cuda")
        if problem:
            problem = f"not usable here: video is decoded on the CPU ({problem})"
        yield _judge("decoder h264 (cuda)", problem, Level.NOTE, "")
        problem = _encode("h264_nvenc", Path(folder) / "nvenc.mp4")
        if problem:
            problem = "not usable here: recordings are encoded on the CPU"
        yield _judge("encoder h264_nvenc", problem, Level.NOTE, "")


def _judge(topic: str, problem: str | None, level: Level, mend: str) -> Finding:
    return Finding(topic, level, problem, mend) if problem else Finding(topic, Level.OK, "works")


def _encode(encoder: str, path: Path) -> str | None:
    """Encode a black frame; return the error, if any."""
    black = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    try:
        with Clip(path, encoder, _SIDE, _SIDE, Fraction(1, 25)) as clip:
            clip.write(black, 0)
    except SinkError as error:
        return str(error)
    return None


def _decode(path: Path, decoder: Decode) -> str | None:
    stream = StreamConfig("doctor", SourceUri(str(path)), stall_timeout=_TIMEOUT, decode=decoder)
    try:
        source = open_stream(stream)
        try:
            pictures = sum(1 for _ in source)
        finally:
            source.close()
    except SourceError as error:
        return str(error)
    return None if pictures else "gives no picture"

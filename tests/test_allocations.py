"""The largest picture that is accepted, in every kind of memory that a decoder asks for."""

import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import pytest
from av.video.frame import VideoFrame

from centernetd.capture import container
from centernetd.capture.open import open_stream
from centernetd.errors import SourceError, StartupError
from tests import clips
from tests.capture_rig import stream

WIDTH, HEIGHT = 8192, container.MAX_PIXELS // 8192
# Made by another process, since encoders allocate more than is allowed in one that decodes. FFV1
# pads a picture that breaks off: so the small one in the packet takes no time.
MAKE = """
import io, sys
from fractions import Fraction
import av, numpy as np

folder, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def stream(output, codec, name, width, height):
    added = output.add_stream(codec, rate=25, options={"strict": "-2"})
    added.width, added.height, added.pix_fmt = width, height, name
    return added

def picture(width, height, name):
    frame = av.VideoFrame(width, height, name)
    frame.pts = 0
    for plane in frame.planes:
        samples = np.frombuffer(memoryview(plane), np.uint8)
        small = samples.size < 1 << 20
        samples[:] = np.random.default_rng(0).integers(0, 60, samples.size) if small else 0
    return frame

for name in sys.argv[4].split(","):
    with av.open(io.BytesIO(), "w", format="nut") as small:
        coder = stream(small, "ffv1", name, 64, 48)
        (packet, *_) = [*coder.encode(picture(64, 48, name)), *coder.encode()]
    with av.open(f"{folder}/{name}.nut", "w") as large:
        packet.stream = stream(large, "ffv1", name, width, height)
        large.start_encoding()
        large.mux(packet)
for name in sys.argv[5].split(","):
    with av.open(f"{folder}/{name}.nut", "w") as large:
        coder = stream(large, "ffvhuff", name, width, height)
        large.mux(coder.encode(picture(width, height, name)))
        large.mux(coder.encode())
"""
# One format for each way in which 8 bits are laid out in memory, and deeper ones.
EIGHT_BITS = ("yuv420p", "yuvj422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "gray", "ya8")
ALPHA = ("yuva420p", "yuva422p", "yuva444p", "bgr0", "bgra")
DEEP = ("yuv420p16le", "yuv422p16le", "yuv444p10le", "gray16le", "gbrp16le")
SMALL = tuple(name.replace("yuvj", "yuv") for name in EIGHT_BITS + ALPHA)


@pytest.fixture(scope="module")
def largest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("largest")
    command = [sys.executable, "-c", MAKE, folder, WIDTH, HEIGHT, ",".join(SMALL), ",".join(DEEP)]
    subprocess.run([str(word) for word in command], check=True)
    yield folder
    for path in folder.iterdir():
        path.unlink()


def in_one_piece(name: str) -> int:
    """Return the bytes of the largest plane of such a picture."""
    strip = VideoFrame(WIDTH, 32, name)
    return max(plane.line_size * plane.height for plane in strip.planes) * HEIGHT // 32


@pytest.mark.parametrize("name", SMALL + DEEP)
def test_the_largest_picture_is_decoded_unless_a_plane_is_too_large(
    name: str, largest: Path
) -> None:
    with closing(open_stream(stream(largest / f"{name}.nut", 60.0))) as opened:
        if in_one_piece(name) < container.MAX_ALLOCATION:
            (found,) = opened
            assert found.image.pixels().shape == (HEIGHT, WIDTH, 3)
            return
        with pytest.raises(SourceError, match="more than 128 MB in one piece") as caught:
            list(opened)
    assert caught.value.reason == "over_limit"


def test_only_what_has_four_bytes_a_pixel_in_one_plane_is_too_large() -> None:
    too_large = {name for name in SMALL + DEEP if in_one_piece(name) > container.MAX_ALLOCATION}
    assert too_large == {"bgr0", "bgra"}


def test_the_limit_is_that_of_the_ffmpeg_in_use() -> None:
    container.bound_allocations()
    with pytest.raises(av.error.MemoryError):
        VideoFrame(8192, 8192, "bgra")
    VideoFrame(7680, 4320, "bgra")  # all of 8K


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_an_ffmpeg_that_cannot_be_limited_is_reported(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(StartupError, match="av_max_alloc"):
        container.bound_allocations.__wrapped__()


def test_no_picture_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    """One of 8K has 159 MB with what it is converted from, and the collector comes late."""
    clip = clips.count(tmp_path / "a.mp4", 30)
    gc.collect()
    gc.disable()
    try:
        with closing(open_stream(stream(clip, 60.0))) as opened:
            assert sum(1 for _ in opened) == 30
        frames = [thing for thing in gc.get_objects() if type(thing) is VideoFrame]
    finally:
        gc.enable()
    assert not [frame for frame in frames if frame.width > 16]

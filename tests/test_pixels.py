"""A picture looks the same whichever way its decoder lays out the planes."""

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

from centernetd.capture.pixels import ToBgr

LAYOUTS = [
    ("yuv420p", "nv12"),
    ("yuv422p", "nv16"),
    ("yuv444p", "nv24"),
    ("yuv420p10le", "p010le"),
    ("yuv420p12le", "p016le"),
    ("yuv422p10le", "p210le"),
]


def noise(layout: str, height: int, width: int) -> VideoFrame:
    frame = VideoFrame(width, height, layout)
    random = np.random.default_rng(0)
    bits = frame.format.components[0].bits
    for plane in frame.planes:
        kind = np.uint8 if bits == 8 else np.uint16
        count = plane.buffer_size // np.dtype(kind).itemsize
        plane.update(random.integers(0, 1 << bits, count).astype(kind).tobytes())
    return frame


@pytest.mark.parametrize("size", [(48, 64), (720, 1280)])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("planar", "interleaved"), LAYOUTS)
def test_interleaved_chroma_gives_the_same_pixels(
    planar: str, interleaved: str, full_range: bool, size: tuple[int, int]
) -> None:
    frame = noise(planar, *size)
    frame.color_range = int(ColorRange.JPEG if full_range else ColorRange.MPEG)
    other = VideoReformatter().reformat(frame, format=interleaved, threads=1)
    assert other.format.name == interleaved
    assert np.array_equal(ToBgr()(frame), ToBgr()(other))

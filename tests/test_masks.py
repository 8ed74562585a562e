"""Masks: nothing that is given out depends on what is behind one."""

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from centernetd.capture.decoding import DecoderChoice
from centernetd.capture.masks import GREY, MARGIN, MaskedSource
from centernetd.capture.open import open_stream
from centernetd.capture.source import Picture
from centernetd.config import PrivacyConfig, RecordConfig, StreamConfig
from centernetd.config.polygon import area
from centernetd.config.values import Point
from centernetd.cuda import Surface
from centernetd.flow import HostImage
from tests import clips, fake_nvdec
from tests.capture_rig import stream
from tests.fake_nvdec import FakeNvdec
from tests.fakes import FakeSource
from tests.sinks import decode, detections, picture, recorder_of, result, sink_context

Polygon = Sequence[Point]
Bits = NDArray[np.bool_]
FINE = 5  # samples along each side of a pixel

SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    """A star around some point: the corners, seen from it, go round once."""
    x, y = draw(st.floats(0.1, 0.9)), draw(st.floats(0.1, 0.9))
    corners = draw(st.integers(3, 9))
    reach = [draw(st.floats(0.02, 1.0)) for _ in range(corners)]
    turn = draw(st.floats(0, 1))
    angles = [2 * pi * (number + turn) / corners for number in range(corners)]
    return [
        (min(max(x + r * cos(a), 0.0), 1.0), min(max(y + r * sin(a), 0.0), 1.0))
        for r, a in zip(reach, angles, strict=True)
    ]


MASKS = st.lists(polygons(), min_size=1, max_size=3)


def sampled(mask: Polygon, size: tuple[int, int]) -> Bits:
    """Which of the points sampled in a picture (height, width) are in a mask."""
    ys, xs = ((np.arange(FINE * side) + 0.5) / (FINE * side) for side in size)
    inside = np.zeros((len(ys), len(xs)), np.bool_)
    for (x1, y1), (x2, y2) in pairwise((*mask, mask[0])):
        if y1 != y2:
            crossing = x1 + (ys - y1) * (x2 - x1) / (y2 - y1)
            passed = (y1 <= ys) != (y2 <= ys)
            inside ^= passed[:, None] & (xs[None, :] < crossing[:, None])
    return inside


def behind(masks: Sequence[Polygon], size: tuple[int, int]) -> Bits:
    """Which pixels of a picture (height, width) have a point in a mask or on its outline.

    They are found point by point, unlike in what is tested.
    """
    height, width = size
    found = np.zeros(size, np.bool_)
    for mask in masks:
        found |= sampled(mask, size).reshape(height, FINE, width, FINE).any(axis=(1, 3))
        for (x1, y1), (x2, y2) in pairwise((*mask, mask[0])):
            steps = np.linspace(0, 1, 4 * FINE * max(size))
            columns = np.minimum((x1 + steps * (x2 - x1)) * width, width - 1).astype(int)
            rows = np.minimum((y1 + steps * (y2 - y1)) * height, height - 1).astype(int)
            found[rows, columns] = True
    return found


def given_out(masks: Sequence[Polygon], *images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """What is given out of a source of these pictures."""
    taken = [Picture(HostImage(image), 0, Fraction(1, 25), 0.0) for image in images]
    return [each.image.pixels() for each in MaskedSource(FakeSource(taken), masks)]


@given(masks=MASKS, sizes=st.lists(SIZES, min_size=1, max_size=3))
def test_behind_a_mask_every_pixel_is_grey_whatever_the_size(
    masks: list[Polygon], sizes: list[tuple[int, int]]
) -> None:
    """Also if the size changes midway: masks are shares of the picture."""
    pictures = given_out(masks, *(picture(*size, seed=n) for n, size in enumerate(sizes)))
    for number, (size, image) in enumerate(zip(sizes, pictures, strict=True)):
        hidden = behind(masks, size)
        assert (image[hidden] == GREY).all()
        far = cv2.dilate(hidden.astype(np.uint8), np.ones([2 * MARGIN + 5] * 2, np.uint8)) == 0
        assert np.array_equal(image[far], picture(*size, seed=number)[far]), "no more than that"


@settings(max_examples=20)
@given(mask=polygons(), other=polygons())
def test_how_much_masks_cover(mask: Polygon, other: Polygon) -> None:
    size = (40, 40)
    both = sampled(mask, size) | sampled(other, size)
    assert area([mask, other]) == pytest.approx(both.mean(), abs=0.02)
    assert area([mask, mask]) == pytest.approx(area([mask]))


def clip(path: Path, size: tuple[int, int], hidden: Bits, seed: int) -> Path:
    """Write noise, losslessly, that is different for each seed only where it is hidden.

    A sample of chroma is shared by four pixels, and hidden if one of them is.
    """
    height, width = size
    with av.open(str(path), "w") as output:
        codec = "ffv1" if path.suffix == ".mkv" else "libx264"
        track = output.add_stream(codec, rate=25, options={} if codec == "ffv1" else {"qp": "0"})
        assert isinstance(track, VideoStream)
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        for number in range(3):
            frame = VideoFrame(width, height, "yuv420p")
            for index, plane in enumerate(frame.planes):
                shape = (plane.height, plane.width)
                step = 2 if index else 1
                shown = np.random.default_rng([number, index]).integers(0, 256, shape)
                other = np.random.default_rng([number, index, seed]).integers(0, 256, shape)
                covers = np.zeros(shape, np.bool_)
                for y, x in np.argwhere(hidden).tolist():
                    covers[y // step, x // step] = True
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : plane.width] = np.where(covers, other, shown)
                plane.update(rows.tobytes())
            frame.pts = number
            output.mux(track.encode(frame))
        output.mux(track.encode())
    return path


def recorded(config: StreamConfig, folder: Path) -> tuple[list[NDArray[np.uint8]], list[Any]]:
    """The pictures of a stream, and those of its recording, in which boxes are drawn."""
    context = sink_context(folder, record=RecordConfig(path="a.mp4", segment=None))
    recorder, pictures = recorder_of(context), []
    with closing(open_stream(config)) as source:
        for number, each in enumerate(source):
            pictures.append(each.image.pixels().copy())
            recorder.write(result(number, each.image.pixels(), detections((8, 8, 30, 20))))
    recorder.close()
    return pictures, [frame.to_ndarray() for frame in decode(folder / "a.mp4")]


@pytest.mark.parametrize(
    ("size", "turns", "suffix"),
    [
        ((64, 96), 0, ".mov"),
        ((64, 96), 1, ".mov"),
        ((64, 96), 2, ".mov"),
        ((64, 96), 3, ".mov"),
        ((63, 95), 0, ".mkv"),
    ],
)
@pytest.mark.parametrize(
    "mask",
    [
        [(0.31, 0.2), (0.95, 0.33), (0.52, 0.91)],
        [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)],
        [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.6, 0.9), (0.6, 0.4), (0.1, 0.4)],
    ],
)
def test_two_clips_that_differ_behind_a_mask_are_the_same_stream(
    size: tuple[int, int], turns: int, suffix: str, mask: Polygon, tmp_path: Path
) -> None:
    """In what the network sees, and in the recording, to the last bit: so nothing depends on it."""
    upright = size[::-1] if turns % 2 else size
    hidden = np.rot90(behind([mask], upright), -turns)
    seen, plain = [], []
    for seed in (1, 2):
        path = clip(tmp_path / f"{seed}{suffix}", size, hidden, seed)
        if turns:
            clips.rotate(path, 90 * turns)
        privacy = PrivacyConfig(masks={"a": tuple(mask)})
        seen.append(recorded(stream(path, privacy=privacy), tmp_path / f"masked-{seed}"))
        plain.append(recorded(stream(path), tmp_path / f"plain-{seed}"))
    (first, stored), (second, stored_too) = seen
    assert len(first) == len(stored) == 3
    assert np.array_equal(first, second)
    assert np.array_equal(stored, stored_too)
    assert (np.array(first)[:, behind([mask], upright)] == GREY).all()
    differs = (np.array(plain[0][0]) != np.array(plain[1][0])).any(axis=(0, 3))
    assert differs[behind([mask], upright)].mean() > 0.9, "the clips are not the same"


def test_pictures_with_masks_are_not_left_on_the_gpu(tmp_path: Path) -> None:
    """Where the network would see them as they are."""
    privacy = PrivacyConfig(masks={"a": ((0.0, 0.0), (0.5, 0.0), (0.0, 1.0))})
    path = clips.write(tmp_path / "a.mp4", [clips.corners((48, 80))] * 3)
    with fake_nvdec.installed(FakeNvdec()):
        for config, kind in (
            (stream(path, decode="cuda"), Surface),
            (stream(path, decode="cuda", privacy=privacy), HostImage),
        ):
            with closing(open_stream(config, DecoderChoice(config, surfaces=True))) as source:
                image = next(iter(source)).image
                assert isinstance(image, kind)
        assert (image.pixels()[:20, :20] == GREY).all()

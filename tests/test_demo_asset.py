"""The committed demo clip and its ground truth: what they promise, and that they match."""

import json
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "assets" / "demo.mp4"
TRUTH = ROOT / "assets" / "demo.json"
LOOKED_AT = range(0, 250, 25)

# The face of the photograph (its box in make_demo.py) in grey, shrunk to 12 x 16 pixels.
TEMPLATE = np.frombuffer(
    bytes.fromhex(
        "72766b566577939499a9613359797a6e6c788c8c8d82692f3b947d77737472616453392b3cb3c6c2c9c7bfa8"
        "864f1f2051adc3bfc4dbdbccb9a560356eaa79609bcac8957c81834f84c2bfabb1c7af9e998c716d95d0dcd6"
        "c8c5abaac6c2a87fa6cbe1c8c1beaf94c6c9ab72b2bbb8a8b6b5a27da0c39f6fbcb6afb5c2c8a68f96ad888c"
        "c2bdd3aabec7b87f97c086b54faecec9becab395bcaf83ce08a3bececbc2b2a9ad90a6d10eafaac3d6d1c3a9"
        "8877c6d40aafcea5a8b3a2746d76c0dc"
    ),
    np.uint8,
).reshape(16, 12)

Face = dict[str, Any]


@pytest.fixture(scope="module")
def clip() -> list[av.VideoFrame]:
    with av.open(str(CLIP)) as container:
        return list(container.decode(video=0))


@pytest.fixture(scope="module")
def truth() -> list[list[Face]]:
    frames: list[list[Face]] = json.loads(TRUTH.read_text())["frames"]
    return frames


def likeness(grey: NDArray[np.uint8], box: list[float]) -> float:
    """Normalised cross-correlation with the template, but for the sides, where the backdrop is."""
    x1, y1, x2, y2 = (max(round(value), 0) for value in box)
    patch = cv2.resize(grey[y1:y2, x1:x2], (12, 16), interpolation=cv2.INTER_AREA)[:, 2:-2]
    return float(np.corrcoef(patch.ravel(), TEMPLATE[:, 2:-2].ravel())[0, 1])


def test_clip_is_ten_seconds_of_720p(clip: list[av.VideoFrame]) -> None:
    assert len(clip) == 250
    assert {(frame.width, frame.height) for frame in clip} == {(1280, 720)}
    assert [frame.time for frame in clip] == pytest.approx([index / 25 for index in range(250)])


def test_clip_is_tagged_bt709_limited_range() -> None:
    with av.open(str(CLIP)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert stream.average_rate == 25
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert context.color_primaries == ColorPrimaries.BT709
        assert context.color_trc == ColorTrc.BT709


def test_clip_is_small() -> None:
    assert CLIP.stat().st_size < 1_000_000


def test_truth_is_what_the_script_draws(truth: list[list[Face]]) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_demo.py"))
    script["refuse_overlaps"]()
    assert truth == [[asdict(face) for face in script["truth"](index)] for index in range(250)]


def test_faces_are_of_many_sizes_and_come_and_go(truth: list[list[Face]]) -> None:
    heights = [face["height"] for faces in truth for face in faces]
    assert min(heights) == pytest.approx(24, abs=1)
    assert max(heights) == pytest.approx(220, abs=1)
    assert min(len(faces) for faces in truth) >= 5
    always = set.intersection(*({face["id"] for face in faces} for faces in truth))
    assert len(always) == 5, "three of the eight faces leave the picture"
    assert any(face["visible"] < 0.5 for faces in truth for face in faces)


def test_boxes_lie_inside_the_picture(truth: list[list[Face]]) -> None:
    for face in (face for faces in truth for face in faces):
        x1, y1, x2, y2 = face["box"]
        assert 0 <= x1 <= x2 <= 1280
        assert 0 <= y1 <= y2 <= 720
        assert 0 <= face["visible"] <= 1
        if face["visible"] == 1:
            assert y2 - y1 == pytest.approx(face["height"], abs=0.02)


@pytest.mark.parametrize("index", LOOKED_AT)
def test_boxes_sit_on_the_faces(
    clip: list[av.VideoFrame], truth: list[list[Face]], index: int
) -> None:
    grey = np.asarray(clip[index].to_ndarray(format="gray"), np.uint8)
    whole = [face for face in truth[index] if face["visible"] == 1 and face["height"] >= 50]
    assert whole
    for face in whole:
        x1, y1, x2, y2 = face["box"]
        found = likeness(grey, [x1, y1, x2, y2])
        assert found > 0.95, f"face {face['id']}"
        dx, dy = 0.1 * (x2 - x1), 0.1 * (y2 - y1)
        for sx, sy in ((dx, 0), (-dx, 0), (0, dy), (0, -dy)):
            shifted = [x1 + sx, y1 + sy, x2 + sx, y2 + sy]
            assert likeness(grey, shifted) < found - 0.02, (
                f"face {face['id']} fits better elsewhere"
            )

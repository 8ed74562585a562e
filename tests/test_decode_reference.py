"""The decode inside a prepared model against CenterNet's own, stated in NumPy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, reference
from tests.exports import Array, Pixels
from tests.onnx_sessions import open_session, prepared_session, raw_outputs

DEMO = Path(__file__).parents[1] / "assets" / "demo.mp4"
ROWS, COLUMNS = 8, 12
SIZE = (ROWS * exports.STRIDE, COLUMNS * exports.STRIDE)
CLASSES = 3


def jukebox(count: int) -> Pixels:
    """Frames whose first pixel asks a playback network for the maps 0 to `count` - 1."""
    frames = np.zeros((count, *SIZE, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(count)
    return frames


def logits_of_every_kind() -> dict[str, Array]:
    """Heatmaps [C, h, w] of logits; even where they tie, neighbours' sigmoids do as well."""
    random = np.random.default_rng(5)
    shape = (CLASSES, ROWS, COLUMNS)
    border = np.full(shape, -4.0)
    border[0, [0, 0, -1, -1], [0, -1, 0, -1]] = [3.0, 2.0, 1.0, 0.5]
    border[1, 0, 4], border[1, 5, -1] = 2.5, 1.5
    ties = np.full(shape, -4.0)
    ties[:, ::4, ::4] = 1.0
    return {
        "random": random.normal(0, 2, shape),
        "plateau": np.full(shape, -1.0),
        "plateaus": random.integers(-3, 3, shape),
        "border": border,
        "ties": ties,
        "one peak": np.where(np.arange(ROWS * COLUMNS).reshape(ROWS, -1) == 40, 2.0, -30.0)
        + np.zeros(shape),
        "saturated": random.choice([-200.0, 40.0, 50.0], shape),
    }


@pytest.fixture(scope="module")
def maps() -> tuple[Array, Array, Array]:
    random = np.random.default_rng(6)
    heat = np.stack(list(logits_of_every_kind().values())).astype(np.float32)
    boxes = (len(heat), 2, ROWS, COLUMNS)
    size = random.uniform(0.1, 9, boxes).astype(np.float32)
    return heat, size, random.uniform(0, 1, boxes).astype(np.float32)


EXPORTS: dict[str, Callable[[exports.Body], onnx.ModelProto]] = {
    "ctdet": lambda body: exports.ctdet(body, SIZE),
    "flat": lambda body: exports.flat(body, SIZE),
    "flat, batch 1 baked in": lambda body: exports.flat(body, SIZE, batch=1),
    "flat_pool": lambda body: exports.flat_pool(body, SIZE),
    "ltrb": lambda body: exports.ltrb(body, SIZE),
}


@pytest.mark.parametrize("top_k", [1, 20, 1000])
@pytest.mark.parametrize("kind", EXPORTS)
def test_a_prepared_model_decodes_like_the_reference(
    kind: str, top_k: int, maps: tuple[Array, Array, Array], tmp_path: Path
) -> None:
    session = prepared_session(
        EXPORTS[kind](exports.playback(*maps)),
        tmp_path,
        replace(exports.RAW_PIXELS, input_size=SIZE, top_k=top_k),
    )
    (found,) = session.run(["detections"], {"frames": jukebox(len(maps[0]))})
    assert found.shape == (len(maps[0]), min(top_k, ROWS * COLUMNS), 6)
    for row, detections in enumerate(found):
        heat, size, offset = (stored[row] for stored in maps)
        expected = reference.decode(reference.sigmoid(heat), size, offset)
        reference.assert_same(detections, None, expected)


def test_a_sigmoid_in_the_export_is_not_repeated(
    maps: tuple[Array, Array, Array], tmp_path: Path
) -> None:
    session = prepared_session(
        exports.ctdet(exports.playback(*maps), SIZE, activated=True),
        tmp_path,
        replace(exports.RAW_PIXELS, input_size=SIZE),
    )
    (found,) = session.run(["detections"], {"frames": jukebox(len(maps[0]))})
    for row, detections in enumerate(found):
        heat, size, offset = (stored[row] for stored in maps)
        scores = np.clip(reference.sigmoid(heat), np.float32(1e-4), np.float32(1 - 1e-4))
        reference.assert_same(detections, None, reference.decode(scores, size, offset))


@pytest.mark.parametrize("kind", EXPORTS)
def test_what_is_not_a_number_comes_first_and_spoils_nothing_else(
    kind: str, maps: tuple[Array, Array, Array], tmp_path: Path
) -> None:
    """Of a broken network: the host drops such rows and logs it."""
    heat, size, offset = (stored[:3].copy() for stored in maps)
    heat[0, 1, 2, 3] = heat[0, 2, 7, 11] = np.nan
    heat[1] = np.nan  # and the third frame is sound
    session = prepared_session(
        EXPORTS[kind](exports.playback(heat, size, offset)),
        tmp_path,
        replace(exports.RAW_PIXELS, input_size=SIZE),
    )
    (found,) = session.run(["detections"], {"frames": jukebox(3)})
    assert [int(np.sum(~np.isfinite(rows[:, 4]))) for rows in found] == [2, len(found[1]), 0]
    for row in (0, 2):
        scores = np.where(np.isnan(heat[row]), np.inf, reference.sigmoid(heat[row]))
        expected = reference.decode(scores.astype(np.float32), size[row], offset[row])
        sound = np.isfinite(expected.detections[:, 4])
        remaining = replace(expected, detections=expected.detections[sound])
        reference.assert_same(found[row][np.isfinite(found[row][:, 4])], None, remaining)


def test_without_offsets_a_centre_is_in_the_middle_of_its_cell(
    maps: tuple[Array, Array, Array], tmp_path: Path
) -> None:
    heat, size, _ = maps
    raw = exports.export(exports.stored({"wh": size, "hm": heat}), SIZE)
    session = prepared_session(raw, tmp_path, replace(exports.RAW_PIXELS, input_size=SIZE))
    (found,) = session.run(["detections"], {"frames": jukebox(len(heat))})
    for row, detections in enumerate(found):
        reference.assert_same(detections, None, reference.ctdet(heat[row], size[row]))


def test_a_size_for_each_class(maps: tuple[Array, Array, Array], tmp_path: Path) -> None:
    heat, _, offset = maps
    shape = (len(heat), 2 * CLASSES, ROWS, COLUMNS)
    size = np.random.default_rng(8).uniform(0.1, 9, shape).astype(np.float32)
    raw = exports.export(exports.stored({"hm": heat, "wh": size, "reg": offset}), SIZE)
    session = prepared_session(raw, tmp_path, replace(exports.RAW_PIXELS, input_size=SIZE))
    (found,) = session.run(["detections"], {"frames": jukebox(len(heat))})
    for row, detections in enumerate(found):
        expected = reference.ctdet(heat[row], size[row], offset[row])
        reference.assert_same(detections, None, expected)


def test_centerface_and_its_defects(tmp_path: Path) -> None:
    size = (64, 96)
    raw = exports.centerface()
    session = prepared_session(raw, tmp_path, PrepareOptions(input_size=size))
    frames = np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    found, keypoints = session.run(["detections", "keypoints"], {"frames": frames})
    assert keypoints.shape == (2, 100, 5, 3)
    assert np.all(keypoints[..., 2] == 1)
    for row, heads in enumerate(raw_outputs(raw, rgb_planes(frames))):
        reference.assert_same(found[row], keypoints[row], reference.centerface(*heads))


def test_the_real_centerface(centerface: Path, tmp_path: Path) -> None:
    prepare(centerface, tmp_path / "prepared.onnx", PrepareOptions())
    session = open_session(tmp_path / "prepared.onnx")
    assert session.get_inputs()[0].shape == ["batch", 512, 512, 3]
    frames = faces()
    found, keypoints = session.run(["detections", "keypoints"], {"frames": frames})
    assert found[0, 0, 4] > 0.5, "no face found in the demo"
    for row, heads in enumerate(raw_outputs(onnx.load(centerface), rgb_planes(frames))):
        reference.assert_same(found[row], keypoints[row], reference.centerface(*heads))


def faces() -> Pixels:
    """A frame of the demo and its mirror image, 512x512, BGR."""
    clip = cv2.VideoCapture(str(DEMO))
    there, frame = clip.read()
    clip.release()
    assert there
    small = cv2.resize(frame, (512, 512))
    return np.stack([small, small[:, ::-1]]).astype(np.uint8)


def rgb_planes(frames: Pixels) -> Array:
    return np.ascontiguousarray(frames[..., ::-1].transpose(0, 3, 1, 2)).astype(np.float32)

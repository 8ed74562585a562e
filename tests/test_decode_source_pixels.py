"""Detections in source pixels against the reference decode, mapped back by other means."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from centernetd.flow import Detections, HostImage
from centernetd.inference.detector import Detector
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.filter import make_filter
from centernetd.prepare.prepare import prepare
from tests import exports, reference
from tests.exports import Array
from tests.reference import multi_pose
from tests.test_decode_joints import maps_of, peaky
from tests.test_decode_reference import SIZE

SOURCES = [(61, 97), (720, 1280), (1280, 720), SIZE, (9, 500)]


def detect(
    maps: dict[str, Array], resize: str, source: tuple[int, int], folder: Path
) -> Detections:
    """Run a picture through a network that gives these maps for any picture."""
    raw = exports.write(exports.export(exports.stored(maps), SIZE), folder / "raw.onnx")
    options = replace(exports.RAW_PIXELS, input_size=SIZE, resize=resize)
    manifest = prepare(raw, folder / "prepared.onnx", options)
    engine = OrtCpuEngine(folder / "prepared.onnx", "float32", max_batch=1, concurrency=1)
    with ThreadPoolExecutor(2) as pool:
        detector = Detector(engine, manifest, pool)
        (slot,) = engine.make_slots(1)
        stream_filter = make_filter(manifest.labels, 0.0, [])
        views = detector.fill(slot, [HostImage(np.zeros((*source, 3), np.uint8))], [stream_filter])
        slot.enqueue(1)
        (found,) = detector.read(slot, views)
    engine.close()
    return found


def back_to(source: tuple[int, int], resize: str) -> Array:
    """The map from input to source pixels by three points, as CenterNet makes its transform.

    The middle goes to the middle; letterboxed, the same number of pixels is a pixel both ways.
    """
    (height, width), (rows, columns) = source, SIZE
    middle = np.array([[width / 2, height / 2], [columns / 2, rows / 2]])
    if resize == "stretch":
        right, down = (width / 2, columns / 2), (height / 2, rows / 2)
    else:
        fitted = columns / width * height <= rows  # the width decides
        right = down = (width / 2, columns / 2) if fitted else (height / 2, rows / 2)
    there, here = (
        np.array([middle[of], middle[of] + [right[of], 0], middle[of] + [0, down[of]]], np.float32)
        for of in (0, 1)
    )
    return np.asarray(cv2.getAffineTransform(here, there), np.float32)


def mapped(points: Array, matrix: Array) -> Array:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


@pytest.mark.parametrize("task", ["ctdet", "multi_pose"])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_detections_are_the_reference_s_in_the_picture(
    task: str, resize: str, source: tuple[int, int], tmp_path: Path
) -> None:
    maps = {name: table[:1] for name, table in maps_of(peaky, seed=5).items()}
    if task == "ctdet":
        maps = {name: maps[name] for name in ("hm", "wh", "reg")}
        expected = reference.ctdet(*(table[0] for table in maps.values()))
    else:
        expected = multi_pose({name: table[0] for name, table in maps.items()}, SIZE[0] * SIZE[1])
    found = detect(maps, resize, source, tmp_path)

    matrix = back_to(source, resize)
    corners = mapped(expected.detections[:, :4].reshape(-1, 2, 2), matrix)
    boxes = np.clip(corners, 0, [source[1], source[0]]).reshape(-1, 4).astype(np.float32)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    keypoints = expected.keypoints.copy()
    keypoints[..., :2] = mapped(keypoints[..., :2], matrix)
    in_picture = reference.Decoded(
        np.hstack([boxes, expected.detections[:, 4:]])[seen], keypoints[seen]
    )
    rows = np.column_stack([found.xyxy, found.confidence, found.class_id]).astype(np.float32)
    assert len(rows) == np.count_nonzero(seen)
    reference.assert_same(rows, found.keypoints, in_picture, slack=max(matrix[0, 0], matrix[1, 1]))

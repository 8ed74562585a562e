"""Boxes, from a picture through letterbox, network and decode back to the picture's pixels."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.flow import Detections, HostImage
from centernetd.inference.detector import Detector
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.filter import make_filter
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports
from tests.models import LABELS, Box, draw, squares

INPUT = (128, 192)
WANTED = make_filter(LABELS, 0.4, [])


@pytest.fixture(scope="module", params=["letterbox", "stretch"])
def detector(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Detector]:
    folder = tmp_path_factory.mktemp("squares")
    source = exports.write(squares(INPUT, reach=8), folder / "export.onnx")
    options = PrepareOptions(top_k=10, resize=request.param, labels=LABELS)
    manifest = prepare(source, folder / "prepared.onnx", options)
    engine = OrtCpuEngine(folder / "prepared.onnx", "float32", max_batch=8, concurrency=1)
    with ThreadPoolExecutor(2) as pool:
        yield Detector(engine, manifest, pool)
    engine.close()


def detect(detector: Detector, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
    (slot,) = detector.engine.make_slots(1)
    slot.rows[:] = 128  # what an earlier batch left
    views = detector.fill(slot, list(map(HostImage, images)), [WANTED] * len(images))
    slot.enqueue(len(images))
    return detector.read(slot, views)


def a_picture(size: tuple[int, int]) -> tuple[NDArray[np.uint8], list[tuple[int, Box]]]:
    """Return a picture of this size with a rectangle of each colour, at odd places."""
    height, width = size
    boxes = []
    for class_id, (x, y) in enumerate([(0.1, 0.15), (0.47, 0.6), (0.7, 0.2)]):
        x1, y1 = round(x * width), round(y * height)
        x2, y2 = x1 + max(1, round(0.17 * width)), y1 + max(1, round(0.23 * height))
        boxes.append((class_id, (x1, y1, x2, y2)))
    return draw(size, *boxes), boxes


@pytest.mark.parametrize(
    "size",
    [
        INPUT,
        (64, 96),  # enlarged
        (127, 191),
        (333, 517),
        (720, 1280),
        (1280, 720),  # portrait
        (2160, 3840),
        (1081, 1921),
    ],
    ids=lambda size: f"{size[1]}x{size[0]}",
)
def test_boxes_lie_within_a_pixel_of_the_truth(detector: Detector, size: tuple[int, int]) -> None:
    """One source pixel, or one input pixel where the picture is larger than the input."""
    image, boxes = a_picture(size)
    (found,) = detect(detector, [image])
    assert sorted(found.class_id.tolist()) == [0, 1, 2]
    expected = np.array([boxes[class_id][1] for class_id in found.class_id], np.float32)
    geometry = detector._geometry(size, INPUT)
    tolerance = [max(1.0, 1 / geometry.sx), max(1.0, 1 / geometry.sy)] * 2
    assert (np.abs(found.xyxy - expected) <= tolerance).all(), found.xyxy - expected
    assert (found.confidence > 0.9).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (1023, 17), (17, 1023), (2, 3)])
def test_a_picture_of_any_shape_gives_boxes_inside_it(
    detector: Detector, size: tuple[int, int]
) -> None:
    height, width = size
    for colour in (0, 255):
        (found,) = detect(detector, [np.full((*size, 3), colour, np.uint8)])
        assert (found.xyxy >= 0).all()
        assert (found.xyxy <= [width, height, width, height]).all()


@pytest.mark.parametrize("detector", ["stretch"], indirect=True)  # letterboxed it is 2 px wide
def test_a_narrow_picture_is_read_along_its_length(detector: Detector) -> None:
    (found,) = detect(detector, [draw((1023, 17), (1, (4, 400, 8, 600)))])
    np.testing.assert_allclose(found.xyxy, [[4, 400, 8, 600]], atol=8)


def test_pictures_with_padded_rows_give_the_same_boxes(detector: Detector) -> None:
    image, _ = a_picture((333, 517))
    padded = np.full((333, 1600), 99, np.uint8)
    view = padded[:, : 517 * 3].reshape(333, 517, 3)
    view[:] = image
    plain, strided = detect(detector, [image, view])
    np.testing.assert_array_equal(plain.xyxy, strided.xyxy)
    np.testing.assert_array_equal(plain.confidence, strided.confidence)


@pytest.mark.parametrize("batch", range(1, 9))
def test_a_picture_gives_the_same_in_any_batch_in_any_row_with_any_neighbours(
    detector: Detector, batch: int
) -> None:
    image, _ = a_picture((333, 517))
    (alone,) = detect(detector, [image])
    random = np.random.default_rng(batch)
    for row in {0, batch // 2, batch - 1}:
        images = [random.integers(0, 256, (90, 50 + n, 3), np.uint8) for n in range(batch)]
        images[row] = image
        found = detect(detector, images)[row]
        np.testing.assert_array_equal(found.class_id, alone.class_id)
        np.testing.assert_allclose(found.xyxy, alone.xyxy, atol=1e-3)
        np.testing.assert_allclose(found.confidence, alone.confidence, atol=1e-5)

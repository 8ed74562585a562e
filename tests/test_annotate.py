"""Drawing boxes, labels and keypoints."""

import numpy as np
import pytest

from centernetd.flow import Detections
from centernetd.sink.annotate import colour_of, draw_boxes
from tests.sinks import detections


@pytest.mark.parametrize(("height", "line"), [(360, 1), (720, 2), (2160, 6)])
def test_lines_grow_with_the_picture(height: int, line: int) -> None:
    image = np.zeros((height, height * 16 // 9, 3), np.uint8)
    middle, half = height // 2, height // 4
    draw_boxes(image, detections((half, half, middle, middle + half)), ["face"])
    drawn = (image[middle, half - 20 : half + 20] == colour_of(0)).all(axis=1)
    assert abs(int(drawn.sum()) - line) <= 1
    assert drawn[20]


def test_nothing_but_the_box_and_its_label_is_touched() -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    draw_boxes(image, detections((300, 300, 500, 500)), ["face"])
    image[260:510, 290:510] = 0
    assert not image.any()


@pytest.mark.parametrize(
    "box",
    [
        (-50, -50, 900, 900),
        (-90, -90, -10, -10),
        (639, 479, 640, 480),
        (5, 5, 5, 5),
        (1e30, 1e30, 2e30, 2e30),
    ],
)
def test_boxes_are_clipped_at_the_border(box: tuple[float, ...]) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    draw_boxes(image, detections(box), ["face"])
    assert image.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (17, 1023), (2160, 3840)])
def test_any_size_of_picture(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    draw_boxes(image, detections((0, 0, shape[1], shape[0])), [])
    assert image.any()


def test_padded_rows_are_drawn_on_in_place() -> None:
    memory = np.zeros((100, 200, 3), np.uint8)
    draw_boxes(memory[:, :150], detections((20, 30, 90, 80)), ["face"])
    assert memory[30:80, 20].any()
    assert not memory[:, 150:].any()


def test_each_class_has_a_colour_of_its_own() -> None:
    assert len({colour_of(class_id) for class_id in range(80)}) == 80


def test_keypoints_are_dots_where_they_are_seen() -> None:
    points = [[[100, 200, 1], [120, 200, 0.05], [9999, 200, 1], [np.nan, 0, 1]]]
    found = Detections(
        xyxy=np.zeros((1, 4), np.float32),
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int64),
        keypoints=np.array(points, np.float32),
    )
    image = np.zeros((300, 300, 3), np.uint8)
    draw_boxes(image, found, ["face"])
    assert image[200, 100].any()
    assert not image[150:250, 110:].any()

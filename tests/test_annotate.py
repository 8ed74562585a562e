"""Drawing boxes, labels, keypoints, tracks, zones, lines and a clock."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
import pytest

from centernetd.flow import Detections, Frame, HostImage, LineCount, Result, Scene, ZoneCount
from centernetd.sink.annotate import Annotator, colour_of, draw_boxes, draw_clock
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


EVERYTHING = ("boxes", "ids", "zones", "clock")
NOBODY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def scene(*, inside: int = 2, crossed: int = 3, predicted: Detections = NOBODY) -> Scene:
    zone = ZoneCount("door", ((0.1, 0.4), (0.5, 0.4), (0.5, 0.9)), inside)
    line = LineCount("gate", (0.6, 0.9), (0.9, 0.9), crossed, 1)
    return Scene({7: "a"}, predicted, (zone,), (line,))


def numbered(*numbers: int) -> Detections:
    """Return boxes in the upper half of a picture of 640 by 480, each of one track."""
    boxes = [(250.0 + 100 * n, 60.0, 310.0 + 100 * n, 160.0) for n in range(len(numbers))]
    return replace(detections(*boxes), tracker_id=np.array(numbers))


def drawn(
    wanted: Sequence[str],
    found: Detections = NOBODY,
    about: Scene | None = None,
    size: tuple[int, int] = (480, 640),
) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    frame = Frame(1, HostImage(image), 0, Fraction(1), 0.0, 1_700_000_000.0)
    Annotator(wanted, ("face",), timezone.utc).draw(image, Result(frame, found, (), about))
    return image


def test_nothing_is_drawn_that_is_not_wanted() -> None:
    assert not drawn((), numbered(7), scene()).any()


@pytest.mark.parametrize("size", [(240, 320), (2160, 3840), (9, 9), (17, 1023)])
def test_everything_fits_any_size(size: tuple[int, int]) -> None:
    assert drawn(EVERYTHING, numbered(7), scene(), size).any()


def test_without_tracks_only_boxes_and_the_clock_are_drawn() -> None:
    found = numbered(7)
    untracked = replace(found, tracker_id=None)
    assert (drawn(EVERYTHING, untracked) == drawn(("boxes", "clock"), untracked)).all()


@pytest.mark.parametrize("other", [scene(inside=5), scene(crossed=5)])
def test_counts_are_written(other: Scene) -> None:
    assert (drawn(("zones",), about=scene()) != drawn(("zones",), about=other)).any()


def test_numbers_are_those_of_tracks() -> None:
    seven, eight, none = (drawn(("ids",), numbered(n), scene()) for n in (7, 8, -1))
    assert seven.any()
    assert (seven != eight).any()
    assert not none.any()


def test_an_arrow_points_to_where_in_is() -> None:
    """The line goes from left to right, so that is downwards; the count is above it."""
    image = drawn(("zones",), about=scene())
    row, middle = round(0.9 * 479), round(0.75 * 639)
    assert image[row + 6 : row + 20, middle].any()
    assert not image[row + 6 : row + 20, middle + 30 :].any()


def test_the_way_of_a_track_fades() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    annotator = Annotator(("ids",), ("face",))
    for number in range(100):
        image[:] = 0
        box = detections((5.0 * number, 60, 5.0 * number + 50, 200))
        found = replace(box, tracker_id=np.array([7]))
        frame = Frame(number, HostImage(image), number, Fraction(1, 25), 0.0, 0.0)
        annotator.draw(image, Result(frame, found, (), scene()))
    feet = image[200, :, :].max(axis=1).astype(int)
    now = round(5.0 * 99 + 25)
    assert not feet[: now - 5 * 51].any(), "longer ago than two seconds"
    assert 0 < feet[now - 5 * 45] < feet[now - 5 * 20] < feet[now - 5]


def test_a_track_that_has_left_leaves_no_trace() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    annotator = Annotator(("ids",), ("face",))
    for time, found in ((0, numbered(7)), (1, numbered()), (4, numbered())):
        image[:] = 0
        frame = Frame(time, HostImage(image), time, Fraction(1), 0.0, 0.0)
        annotator.draw(image, Result(frame, found, (), scene()))
    assert not image.any()


def test_only_the_corners_of_a_predicted_box_are_drawn() -> None:
    box = replace(detections((100, 100, 200, 200)), tracker_id=np.array([7]))
    image = drawn(("boxes",), about=scene(predicted=box))
    assert image[100, 105].any()
    assert not image[100, 150].any()
    others = replace(box, tracker_id=np.array([8]))
    assert not drawn(("boxes",), about=scene(predicted=others)).any(), "not confirmed"


def test_the_clock_is_that_of_the_time_zone() -> None:
    utc, later = (np.zeros((480, 640, 3), np.uint8) for _ in range(2))
    moment = datetime.fromtimestamp(1_700_000_000, timezone.utc)
    draw_clock(utc, moment)
    draw_clock(later, moment.astimezone(timezone(timedelta(hours=1))))
    assert (utc != later).any()
    assert (drawn(("clock",)) == utc).all()

"""Drawing into a picture: boxes, keypoints, tracks, zones, lines and a clock."""

import colorsys
import math
from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime, tzinfo
from functools import cache
from itertools import pairwise, product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections, Result, Scene

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN_RATIO = 0.618033988749895  # multiples of it spread evenly over the colour circle
KEYPOINT_THRESHOLD = 0.1  # CenterNet's own for joints
BLACK, WHITE, YELLOW = (0, 0, 0), (255, 255, 255), (60, 220, 255)
TRAIL = 2.0  # seconds for which the way of an object stays visible
TRAIL_PARTS = 4  # of different age, and so of different strength


class _Pen(NamedTuple):
    """Line and font sizes relative to the picture: lines are two pixels wide at 720p."""

    line: int
    font_scale: float
    font_line: int
    padding: int

    @classmethod
    def of(cls, image: Pixels) -> "_Pen":
        size = min(image.shape[:2]) / 720
        return cls(
            line=max(1, round(2 * size)),
            font_scale=max(0.4, 0.6 * size),
            font_line=max(1, round(1.5 * size)),
            padding=max(2, round(4 * size)),
        )


class Annotator:
    """Draws into the pictures of one stream, in order: it remembers where objects came from."""

    def __init__(
        self, wanted: Collection[str], labels: Sequence[str], timezone: tzinfo | None = None
    ) -> None:
        """Draw what is ``wanted`` of boxes, ids, zones and clock; None is the system's time zone.

        ``labels`` are those of the classes.
        """
        self._wanted = wanted
        self._labels = labels
        self._timezone = timezone
        self._trails: dict[int, deque[_Footprint]] = {}

    def draw(self, image: Pixels, result: Result) -> None:
        """Draw into the ``image`` (BGR, in place) of a frame; only its detections are shown."""
        scene, found = result.scene, result.detections
        places = scene if "zones" in self._wanted else None
        numbered = scene is not None and "ids" in self._wanted
        if places is not None:
            _draw_edges(image, places)
        if numbered:
            self._draw_trails(image, found, result.frame.time)
        if scene is not None and "boxes" in self._wanted:
            _draw_predicted(image, scene)
        if "boxes" in self._wanted:
            draw_boxes(image, found, self._labels, numbered=numbered)
        elif numbered:
            _draw_numbers(image, found)
        if places is not None:
            _draw_counts(image, places)
        if "clock" in self._wanted:
            draw_clock(image, datetime.fromtimestamp(result.frame.wall_time, self._timezone))

    def _draw_trails(self, image: Pixels, found: Detections, time: float) -> None:
        """Draw where each object was in the last seconds: the longer ago, the fainter."""
        height, width = image.shape[:2]
        for number, (x1, _, x2, y2) in _tracks(found):
            trail = self._trails.setdefault(number, deque())
            trail.append(_Footprint(time, (x1 + x2) / 2 / width, y2 / height))
        for number, trail in [*self._trails.items()]:
            while trail and time - trail[0].time > TRAIL:
                trail.popleft()
            if trail:
                _draw_trail(image, trail, time, colour_of(number))
            else:
                del self._trails[number]


class _Footprint(NamedTuple):
    """Where an object was, as shares of the picture, and when."""

    time: float
    x: float
    y: float


def draw_boxes(
    image: Pixels, detections: Detections, labels: Sequence[str], *, numbered: bool = False
) -> None:
    """Draw boxes, labels with scores, and keypoints into ``image`` (BGR, in place).

    Boxes that extend beyond the picture are drawn along its edge. Weak detections are drawn
    first, so that strong ones stay readable. With ``numbered``, those of a track show its number
    in a colour of its own.
    """
    pen = _Pen.of(image)
    boxes = _corners(detections.xyxy, image.shape[1], image.shape[0])
    numbers = _numbers(detections) if numbered else [-1] * len(detections)
    for index in reversed(range(len(detections))):
        class_id, number = int(detections.class_id[index]), numbers[index]
        colour = colour_of(class_id if number < 0 else number)
        x1, y1, x2, y2 = boxes[index].tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, pen.line)
        if detections.keypoints is not None:
            _draw_keypoints(image, detections.keypoints[index], colour, pen)
        text = f"{label_of(class_id, labels)} {detections.confidence[index]:.2f}"
        _draw_text(image, text if number < 0 else f"#{number} {text}", x1, y1, colour, pen)


def draw_clock(image: Pixels, moment: datetime) -> None:
    """Write a time into the upper left corner of ``image`` (BGR, in place)."""
    _draw_text(image, f"{moment:%Y-%m-%d %H:%M:%S}", 0, 0, BLACK, _Pen.of(image))


def label_of(class_id: int, labels: Sequence[str]) -> str:
    """Return the name of a class, or its number if the model does not name it."""
    return labels[class_id] if class_id < len(labels) else str(class_id)


@cache
def colour_of(class_id: int) -> Colour:
    """Return the bright colour assigned to the class."""
    red, green, blue = colorsys.hsv_to_rgb((0.35 + class_id * GOLDEN_RATIO) % 1, 0.85, 0.95)
    return round(255 * blue), round(255 * green), round(255 * red)


def _numbers(detections: Detections) -> list[int]:
    """Return the number of the track of each detection, -1 for none."""
    ids = detections.tracker_id
    return [-1] * len(detections) if ids is None else ids.tolist()


def _tracks(found: Detections) -> list[tuple[int, list[float]]]:
    """Return the number and the box of each detection that belongs to a track."""
    rows = zip(_numbers(found), found.xyxy.tolist(), strict=True)
    return [(number, box) for number, box in rows if number >= 0]


def _pixel(image: Pixels, place: tuple[float, float]) -> tuple[int, int]:
    height, width = image.shape[:2]
    return round(place[0] * (width - 1)), round(place[1] * (height - 1))


def _draw_edge(image: Pixels, one: tuple[int, int], two: tuple[int, int], pen: _Pen) -> None:
    cv2.line(image, one, two, BLACK, pen.line + 2, cv2.LINE_AA)
    cv2.line(image, one, two, YELLOW, pen.line, cv2.LINE_AA)


def _draw_edges(image: Pixels, scene: Scene) -> None:
    """Draw zones and lines; an arrow in the middle of a line points to where `in` is."""
    pen = _Pen.of(image)
    for zone in scene.zones:
        corners = [_pixel(image, corner) for corner in zone.corners]
        for one, two in pairwise([*corners, corners[0]]):
            _draw_edge(image, one, two, pen)
    for line in scene.lines:
        (x1, y1), (x2, y2) = start, to = _pixel(image, line.start), _pixel(image, line.to)
        _draw_edge(image, start, to, pen)
        middle = (x1 + x2) // 2, (y1 + y2) // 2
        length = 10 * pen.padding / max(1.0, math.hypot(x2 - x1, y2 - y1))
        tip = round(middle[0] - length * (y2 - y1)), round(middle[1] + length * (x2 - x1))
        for colour, width in ((BLACK, pen.line + 2), (YELLOW, pen.line)):
            cv2.arrowedLine(image, middle, tip, colour, width, cv2.LINE_AA, tipLength=0.3)


def _draw_counts(image: Pixels, scene: Scene) -> None:
    """Write how many are in each zone at its top, and how many crossed each line at its middle."""
    pen = _Pen.of(image)
    for zone in scene.zones:
        corners = [_pixel(image, corner) for corner in zone.corners]
        x, y = min(corners, key=lambda corner: (corner[1], corner[0]))
        _draw_text(image, f"{zone.name}: {zone.inside}", x, y - pen.line - 1, YELLOW, pen)
    for line in scene.lines:
        (x1, y1), (x2, y2) = _pixel(image, line.start), _pixel(image, line.to)
        text = f"{line.name}: {line.crossed_in} in, {line.crossed_out} out"
        _draw_text(image, text, (x1 + x2) // 2, (y1 + y2) // 2 - pen.line - 1, YELLOW, pen)


def _draw_trail(image: Pixels, trail: Sequence[_Footprint], now: float, colour: Colour) -> None:
    pen = _Pen.of(image)
    points = np.array([_pixel(image, (each.x, each.y)) for each in trail])
    margin = 2 * pen.line
    left, top = np.maximum(points.min(axis=0) - margin, 0).tolist()
    right, bottom = (points.max(axis=0) + margin).tolist()
    region = image[top:bottom, left:right]
    if not region.size:
        return
    ages = np.array([now - each.time for each in trail])
    for part in range(TRAIL_PARTS):
        oldest = TRAIL * (1 - part / TRAIL_PARTS)
        line = points[ages <= oldest] - (left, top)
        if len(line) > 1:
            drawn = region.copy()
            cv2.polylines(drawn, [line], isClosed=False, color=colour, thickness=pen.line + 1)
            cv2.addWeighted(drawn, 1 / TRAIL_PARTS, region, 1 - 1 / TRAIL_PARTS, 0, region)


def _draw_numbers(image: Pixels, found: Detections) -> None:
    """Write the numbers of tracks where their boxes would be."""
    pen = _Pen.of(image)
    for number, box in _tracks(found):
        ((x1, y1, _, _),) = _corners(np.array([box], np.float32), *image.shape[1::-1]).tolist()
        _draw_text(image, f"#{number}", x1, y1, colour_of(number), pen)


def _draw_predicted(image: Pixels, scene: Scene) -> None:
    """Mark the corners of boxes that were not detected but must be about there."""
    pen = _Pen.of(image)
    boxes = _corners(scene.predicted.xyxy, image.shape[1], image.shape[0])
    for number, (x1, y1, x2, y2) in zip(_numbers(scene.predicted), boxes.tolist(), strict=True):
        if number in scene.track_ids:
            across, down, colour = (x2 - x1) // 5, (y2 - y1) // 5, colour_of(number)
            for (x, dx), (y, dy) in product(
                ((x1, across), (x2, -across)), ((y1, down), (y2, -down))
            ):
                cv2.line(image, (x, y), (x + dx, y), colour, pen.line)
                cv2.line(image, (x, y), (x, y + dy), colour, pen.line)


def _corners(xyxy: NDArray[np.float32], width: int, height: int) -> NDArray[np.int64]:
    limits = [width - 1, height - 1, width - 1, height - 1]
    return np.rint(np.clip(xyxy, 0, limits)).astype(np.int64)


def _draw_keypoints(image: Pixels, points: NDArray[np.float32], colour: Colour, pen: _Pen) -> None:
    height, width = image.shape[:2]
    for x, y, score in points.tolist():
        if score > KEYPOINT_THRESHOLD and 0 <= x < width and 0 <= y < height:
            cv2.circle(image, (round(x), round(y)), pen.line + 1, colour, cv2.FILLED)


def _draw_text(image: Pixels, text: str, x: int, y: int, colour: Colour, pen: _Pen) -> None:
    """Write on a filled strip on top of the box, or inside it at the top of the picture."""
    (width, height), baseline = cv2.getTextSize(text, FONT, pen.font_scale, pen.font_line)
    strip = height + baseline + pen.padding
    left = max(0, min(x, image.shape[1] - width - 2 * pen.padding))
    top = y - strip if y >= strip else max(0, y)
    right, bottom = left + width + 2 * pen.padding, top + strip
    cv2.rectangle(image, (left, top), (right, bottom), colour, cv2.FILLED)
    blue, green, red = colour
    ink = BLACK if 0.0722 * blue + 0.7152 * green + 0.2126 * red > 110 else WHITE
    place = (left + pen.padding, bottom - baseline)
    cv2.putText(image, text, place, FONT, pen.font_scale, ink, pen.font_line, cv2.LINE_AA)

"""Drawing detections into a picture: boxes, labels and keypoints."""

import colorsys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN_RATIO = 0.618033988749895  # multiples of it spread evenly over the colour circle
KEYPOINT_THRESHOLD = 0.1  # CenterNet's own for joints
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


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


def draw_boxes(image: Pixels, detections: Detections, labels: Sequence[str]) -> None:
    """Draw boxes, labels with scores, and keypoints into ``image`` (BGR, in place).

    Boxes that extend beyond the picture are drawn along its edge. Weak detections are drawn
    first, so that strong ones stay readable.
    """
    pen = _Pen.of(image)
    boxes = _corners(detections.xyxy, image.shape[1], image.shape[0])
    for index in reversed(range(len(detections))):
        class_id = int(detections.class_id[index])
        x1, y1, x2, y2 = boxes[index].tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), colour_of(class_id), pen.line)
        if detections.keypoints is not None:
            _draw_keypoints(image, detections.keypoints[index], colour_of(class_id), pen)
        text = f"{label_of(class_id, labels)} {detections.confidence[index]:.2f}"
        _draw_text(image, text, x1, y1, colour_of(class_id), pen)


def label_of(class_id: int, labels: Sequence[str]) -> str:
    """Return the name of a class, or its number if the model does not name it."""
    return labels[class_id] if class_id < len(labels) else str(class_id)


@cache
def colour_of(class_id: int) -> Colour:
    """Return the bright colour assigned to the class."""
    red, green, blue = colorsys.hsv_to_rgb((0.35 + class_id * GOLDEN_RATIO) % 1, 0.85, 0.95)
    return round(255 * blue), round(255 * green), round(255 * red)


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
    top = y - strip if y >= strip else y
    right, bottom = left + width + 2 * pen.padding, top + strip
    cv2.rectangle(image, (left, top), (right, bottom), colour, cv2.FILLED)
    blue, green, red = colour
    ink = BLACK if 0.0722 * blue + 0.7152 * green + 0.2126 * red > 110 else WHITE
    place = (left + pen.padding, bottom - baseline)
    cv2.putText(image, text, place, FONT, pen.font_scale, ink, pen.font_line, cv2.LINE_AA)

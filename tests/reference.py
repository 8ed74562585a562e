"""The reference decode in NumPy: `ctdet_decode` and `multi_pose_decode` for one frame.

It shares nothing with the graph that is compared with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

STRIDE = 4


@dataclass(frozen=True)
class Decoded:
    """Every cell of every class, best first: [N, 6] as in a prepared model, and [N, J, 2 or 3]."""

    detections: Array
    keypoints: Array


def sigmoid(logits: Array) -> Array:
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def suppress(scores: Array) -> Array:
    """Set to 0 what is not the highest of its 3x3 neighbourhood; [C, h, w]."""
    _, rows, columns = scores.shape
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    shifted = [padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.where(scores == np.max(shifted, axis=0), scores, 0)


def decode(scores: Array, size: Array, offset: Array, landmarks: Array | None = None) -> Decoded:
    """Decode maps [C, h, w], [2, h, w] as (w, h), [2, h, w] as (x, y), [2J, h, w] of (x, y).

    All in cells; landmarks count from the cell's corner.
    """
    peaks = suppress(scores)
    order = np.argsort(-peaks, axis=None, kind="stable")
    class_id, y, x = np.unravel_index(order, peaks.shape)
    centre = np.stack([x, y]) + offset[:, y, x]
    own = 2 * class_id if len(size) > 2 else 0 * class_id
    half = np.stack([size[own, y, x], size[own + 1, y, x]]) / 2
    box = np.concatenate([centre - half, centre + half]) * STRIDE
    detections = np.stack([*box, peaks[class_id, y, x], class_id], axis=1)
    keypoints = np.empty((len(order), 0, 2), np.float32)
    if landmarks is not None:
        points = landmarks[:, y, x].T.reshape(len(order), -1, 2)
        keypoints = (points + np.stack([x, y], axis=1)[:, None]) * np.float32(STRIDE)
    return Decoded(detections.astype(np.float32), keypoints.astype(np.float32))


def centerface(heat: Array, scale: Array, offset: Array, landmarks: Array) -> Decoded:
    """Decode CenterFace: scale (h, w) in logarithm, offset (y, x), landmarks (y, x) of the box."""
    size = np.exp(scale[::-1])
    centre = offset[::-1] + 0.5
    corner = centre - size / 2
    points = [
        corner[axis] + landmarks[2 * joint + 1 - axis] * size[axis]
        for joint in range(len(landmarks) // 2)
        for axis in (0, 1)
    ]
    return decode(heat, size, centre, np.stack(points))


def multi_pose(maps: Mapping[str, Array], top_k: int) -> Decoded:
    """Decode heads of logits [channels, h, w], given by CenterNet's names; it looks at K peaks.

    Keypoints are [N, J, 3]: the score is that of the peak taken, 0 where there was none.
    """
    boxes = ctdet(maps["hm"], maps["wh"], maps.get("reg"))
    peaks = _peaks(maps, top_k) if "hm_hp" in maps else None
    columns = maps["hm"].shape[2]
    order = np.argsort(-suppress(sigmoid(maps["hm"])), axis=None, kind="stable")
    keypoints = []
    for cell, box in zip(order % maps["hm"][0].size, boxes.detections, strict=True):
        y, x = divmod(int(cell), columns)
        regressed = maps["hps"][:, y, x].reshape(-1, 2) + np.array([x, y])
        if peaks is None:
            points = [(*point, 1.0) for point in regressed]
        else:
            points = [
                _joint(point, near, box[:4] / STRIDE)
                for point, near in zip(regressed, peaks, strict=True)
            ]
        keypoints.append([(x * STRIDE, y * STRIDE, score) for x, y, score in points])
    return Decoded(boxes.detections, np.array(keypoints, np.float32))


def _peaks(maps: Mapping[str, Array], top_k: int) -> list[Array]:
    """Return for each joint its best peaks above 0.1 as rows (x, y, score)."""
    found = []
    for heat in suppress(sigmoid(maps["hm_hp"])):
        best = np.argsort(-heat, axis=None, kind="stable")[:top_k]
        y, x = np.unravel_index(best, heat.shape)
        offset = maps["hp_offset"][:, y, x] if "hp_offset" in maps else np.full((2, 1), 0.5)
        rows = np.stack([x + offset[0], y + offset[1], heat[y, x]], axis=1)
        found.append(rows[rows[:, 2] > 0.1])
    return found


def _joint(regressed: Array, peaks: Array, box: Array) -> tuple[float, float, float]:
    """Return the nearest peak, unless that is outside the box or too far from `regressed`."""
    x1, y1, x2, y2 = box
    if len(peaks):
        distances = np.hypot(*(peaks[:, :2] - regressed).T)
        x, y, score = peaks[np.argmin(distances)]
        inside = x1 <= x <= x2 and y1 <= y <= y2
        if inside and distances.min() <= 0.3 * max(x2 - x1, y2 - y1):
            return x, y, score
    return regressed[0], regressed[1], 0.0


def assert_same(
    found: Array, keypoints: Array | None, expected: Decoded, slack: float = 1.0
) -> None:
    """Check K detections [K, 6] against the reference: ties compare as sets.

    The scores must be the K best, in order; each row must be a cell of the reference, once.
    Places may differ by `slack` 500ths of a pixel.
    """
    count = len(found)
    np.testing.assert_allclose(found[:, 4], expected.detections[:count, 4], atol=1e-5)
    free = np.ones(len(expected.detections), dtype=bool)
    for row, detection in enumerate(found):
        near = free & (np.abs(expected.detections[:, 4] - detection[4]) < 1e-5)
        near &= np.all(np.abs(expected.detections - detection) < 2e-3 * max(slack, 1), axis=1)
        if keypoints is not None:
            apart = np.abs(expected.keypoints - keypoints[row, :, : expected.keypoints.shape[2]])
            near &= np.all(apart < 2e-3 * max(slack, 1), axis=(1, 2))
        matches = np.flatnonzero(near)
        assert len(matches), f"row {row} is no cell of the reference, or comes twice: {detection}"
        free[matches[0]] = False


def flat(table: Array, grid: tuple[int, int]) -> Decoded:
    """Decode [cells, C + 4]: suppressed scores, w, h, x, y."""
    maps = table.T.reshape(-1, *grid)
    return decode(maps[:-4], maps[-4:-2], maps[-2:])


def flat_pool(table: Array, grid: tuple[int, int]) -> Decoded:
    """Decode [cells, 4 + 2C]: x, y, w, h, logits, pooled logits."""
    maps = table.T.reshape(-1, *grid)
    classes = (len(maps) - 4) // 2
    return decode(sigmoid(maps[4 : 4 + classes]), maps[2:4], maps[:2])


def ltrb(heat: Array, sides: Array, stride: int = STRIDE) -> Decoded:
    """Decode a heatmap of logits, and pixels [4, h, w] to left, top, right and bottom."""
    peaks = suppress(sigmoid(heat))
    order = np.argsort(-peaks, axis=None, kind="stable")
    class_id, y, x = np.unravel_index(order, peaks.shape)
    left, top, right, bottom = sides[:, y, x]
    box = (x * stride - left, y * stride - top, x * stride + right, y * stride + bottom)
    return _boxes(*box, peaks[class_id, y, x], class_id)


def end2end(rows: Array) -> Decoded:
    """Sort rows [N, 6] by score."""
    return _boxes(*rows[np.argsort(-rows[:, 4], kind="stable")].T)


def queries(logits: Array, boxes: Array, size: tuple[int, int]) -> Decoded:
    """Decode logits [Q, C] and boxes [Q, 4] as cx, cy, w, h in shares of (height, width)."""
    scores = sigmoid(logits)
    order = np.argsort(-scores, axis=None, kind="stable")
    query, class_id = np.unravel_index(order, scores.shape)
    x, y, width, height = boxes[query].T * np.array([size[1], size[0]] * 2)[:, None]
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return _boxes(*box, scores[query, class_id], class_id)


def _boxes(*columns: npt.NDArray[Any]) -> Decoded:
    rows = np.stack(columns, axis=1).astype(np.float32)
    return Decoded(rows, np.empty((len(rows), 0, 2), np.float32))


def ctdet(heat: Array, size: Array, offset: Array | None = None) -> Decoded:
    """Decode a heatmap of logits; `size` may be [2C, h, w], a pair for each class."""
    if offset is None:
        offset = np.full((2, *heat.shape[1:]), 0.5, np.float32)
    return decode(sigmoid(heat), size, offset)

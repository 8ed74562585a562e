"""Converting an engine's tensors to detections in source pixels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections
from centernetd.inference.filter import StreamFilter
from centernetd.inference.letterbox import Geometry

Rows = NDArray[np.float32]


class View(NamedTuple):
    """How one frame maps into a batch: its (height, width), geometry and filter."""

    size: tuple[int, int]
    geometry: Geometry
    filter: StreamFilter


def postprocess(
    rows: Rows, keypoints: Rows | None, views: Sequence[View], nms_iou: float | None
) -> tuple[list[Detections], int]:
    """Convert a batch's rows [B, K, 6] and keypoints [B, K, J, 3] to detections per view.

    Everything that any consumer of a stream accepts is kept. Boxes are clipped to their
    picture, and dropped if no area is left. Also return the number of rows discarded because
    they contain NaN, infinity or an unknown class, which only a broken model produces.
    """
    floors = [view.filter.floor for view in views]
    keep = rows[:, :, 4] >= np.array([floor.confidence for floor in floors], np.float32)[:, None]
    broken = _drop_broken(keep, rows, keypoints, len(views[0].filter.counted_as))
    for number, floor in enumerate(floors):
        if floor.class_ids is not None:
            keep[number] &= np.isin(rows[number, :, 5], list(floor.class_ids))
    frame, row = np.nonzero(keep)
    maps = np.array([_map(view) for view in views], np.float32).reshape(-1, 3, 1, 2)
    best, offset, scale, limit = rows[frame, row], *maps[frame].swapaxes(0, 1)
    boxes = np.clip(_to_source(best[:, :4].reshape(-1, 2, 2), offset, scale), 0, limit)
    points = None if keypoints is None else keypoints[frame, row]
    if points is not None:
        points[..., :2] = _to_source(points[..., :2], offset, scale)
    first = np.array([view.filter.first_class for view in views])[frame]
    class_id = best[:, 5].astype(np.int64) + first
    found = Detections(boxes.reshape(-1, 4), best[:, 4], class_id, points)
    inside = (boxes[:, 1, 0] > boxes[:, 0, 0]) & (boxes[:, 1, 1] > boxes[:, 0, 1])
    if not inside.all():
        frame, best, found = frame[inside], best[inside], found[inside]
    ends = np.searchsorted(frame, np.arange(len(views) + 1)).tolist()
    parts = [slice(*part) for part in pairwise(ends)]
    if nms_iou is None:
        return [found[part] for part in parts], broken
    return [found[part][_nms(best[part], nms_iou)] for part in parts], broken


def _drop_broken(keep: NDArray[np.bool_], rows: Rows, keypoints: Rows | None, classes: int) -> int:
    """Remove unusable rows from ``keep``; return their number."""
    # Usually all rows are usable, which a sum shows: it is finite only if every number is.
    finite = np.isfinite(rows.sum()) and (keypoints is None or np.isfinite(keypoints.sum()))
    class_id = rows[:, :, 5]
    if finite and class_id.min() >= 0 and class_id.max() < classes:
        return 0
    sound = np.isfinite(rows).all(axis=2) & (class_id >= 0) & (class_id < classes)
    if keypoints is not None:
        sound &= np.isfinite(keypoints).all(axis=(2, 3))
    keep &= sound
    return int(np.count_nonzero(~sound))


def _map(view: View) -> tuple[float, ...]:
    """Return offset and scale of the view in x and y, and the width and height of its picture."""
    geometry, (height, width) = view.geometry, view.size
    return geometry.tx, geometry.ty, geometry.sx, geometry.sy, width, height


def _to_source(xy: Rows, offset: Rows, scale: Rows) -> Rows:
    """Map points [N, P, 2] to source pixels, by the ``offset`` and ``scale`` [N, 1, 2] of each."""
    return (xy - offset) / scale


def _nms(rows: Rows, iou: float) -> NDArray[np.intp]:
    """Return the indices of a frame's ``rows`` kept by greedy suppression within each class.

    Not of a whole batch at once: OpenCV compares each box with all that were kept.
    """
    if len(rows) < 2:
        return np.arange(len(rows))
    xywh = rows[:, :4].astype(np.float64)
    xywh -= xywh[:, :2].min()  # OpenCV sets classes apart by the largest coordinate
    xywh[:, 2:] -= xywh[:, :2]
    # Rows are sorted best first; ranks serve as scores, because OpenCV drops a score of 0.
    ranks = np.arange(len(rows), 0.0, -1.0).tolist()
    kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), ranks, rows[:, 5].astype(int).tolist(), 0.0, iou)
    return np.sort(np.asarray(kept, np.intp).reshape(-1))

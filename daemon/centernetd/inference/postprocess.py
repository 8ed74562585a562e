"""Converting an engine's tensors to detections in source pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections
from centernetd.inference.filter import StreamFilter
from centernetd.inference.letterbox import Geometry

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class View:
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
    keep = rows[:, :, 4] >= np.array([[floor.confidence] for floor in floors], np.float32)
    broken = _drop_broken(keep, rows, keypoints, len(views[0].filter.counted_as))
    for kept, found, floor in zip(keep, rows, floors, strict=True):
        if floor.class_ids is not None:
            kept &= np.isin(found[:, 5], list(floor.class_ids))
    frame, row = np.nonzero(keep)
    best = rows[frame, row]
    boxes, inside = _to_source(best[:, :4], frame, views)
    if not inside.all():
        frame, row, best, boxes = frame[inside], row[inside], best[inside], boxes[inside]
    points = None if keypoints is None else keypoints[frame, row]
    ends = np.searchsorted(frame, np.arange(len(views) + 1)).tolist()
    return [
        _detections(view, best[start:end], boxes[start:end], _part(points, start, end), nms_iou)
        for view, start, end in zip(views, ends, ends[1:], strict=False)
    ], broken


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


def _to_source(
    xyxy: Rows, frame: NDArray[np.intp], views: Sequence[View]
) -> tuple[Rows, NDArray[np.bool_]]:
    """Map boxes [N, 4] to source pixels and clip them; also return which have an area left."""
    geometries = [view.geometry for view in views]
    offset = np.array([[g.tx, g.ty] * 2 for g in geometries], np.float32)[frame]
    scale = np.array([[g.sx, g.sy] * 2 for g in geometries], np.float32)[frame]
    limit = np.array([view.size[::-1] * 2 for view in views], np.float32)[frame]
    boxes = np.minimum(np.maximum((xyxy - offset) / scale, 0), limit)
    return boxes, (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def _detections(
    view: View, best: Rows, boxes: Rows, points: Rows | None, nms_iou: float | None
) -> Detections:
    if nms_iou is not None and len(best) > 1:
        kept = _nms(best, nms_iou)
        best, boxes = best[kept], boxes[kept]
        points = None if points is None else points[kept]
    if points is not None:
        points[..., :2] = view.geometry.unmap_points(points[..., :2])
    class_id = best[:, 5].astype(np.int64) + view.filter.first_class
    return Detections(boxes, best[:, 4], class_id, points)


def _nms(rows: Rows, iou: float) -> NDArray[np.intp]:
    """Return the indices of ``rows`` kept by greedy suppression within each class."""
    xywh = rows[:, :4].copy()
    xywh[:, 2:] -= xywh[:, :2]
    # Rows are sorted best first; ranks serve as scores, because OpenCV drops a score of 0.
    ranks = [float(rank) for rank in range(len(rows), 0, -1)]
    kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), ranks, rows[:, 5].astype(int).tolist(), 0.0, iou)
    return np.sort(np.asarray(kept, np.intp).reshape(-1))


def _part(points: Rows | None, start: int, end: int) -> Rows | None:
    return None if points is None else points[start:end]

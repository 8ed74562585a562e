"""From an engine's tensors to detections in source pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.flow import Detections
from daemon.inference.letterbox import Geometry
from daemon.inference.wanted import Wanted


def postprocess(
    rows: NDArray[np.float32],
    keypoints: NDArray[np.float32] | None,
    geometry: Geometry,
    size: tuple[int, int],
    wanted: Wanted,
    nms_iou: float | None,
) -> tuple[Detections, int]:
    """Turn one frame's rows [K, 6] and keypoints [K, J, 3] into detections.

    Boxes are clipped to the picture, whose ``size`` is (height, width), and dropped where
    nothing of them is left. Returns the detections and how many rows were thrown away because
    they held NaN, infinity or no class of the model's, which only a broken model gives.
    """
    keep = rows[:, 4] >= wanted.confidence
    sound = _sound(rows, keypoints, len(wanted.counted_as))
    broken = 0 if sound is None else int(np.count_nonzero(~sound))
    if sound is not None:
        keep &= sound
    if wanted.class_ids is not None:
        keep &= np.isin(rows[:, 5], list(wanted.class_ids))
    kept = np.flatnonzero(keep)
    if nms_iou is not None and len(kept) > 1:
        kept = kept[_nms(rows[kept], nms_iou)]
    boxes = geometry.unmap_boxes(rows[kept, :4], size)
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not inside.all():  # some lie wholly in the letterbox's border
        kept, boxes = kept[inside], boxes[inside]
    best = rows[kept]
    return Detections(
        xyxy=boxes,
        confidence=best[:, 4].copy(),
        class_id=best[:, 5].astype(np.int64),
        keypoints=None if keypoints is None else _unmap_keypoints(keypoints[kept], geometry),
    ), broken


def _sound(
    rows: NDArray[np.float32], keypoints: NDArray[np.float32] | None, classes: int
) -> NDArray[np.bool_] | None:
    """Return which rows are usable, or None for all: nearly always, so that is found quickly."""
    # A sum is finite only if every number in it is; this runs on every frame.
    finite = np.isfinite(rows.sum()) and (keypoints is None or np.isfinite(keypoints.sum()))
    if finite and rows[:, 5].min() >= 0 and rows[:, 5].max() < classes:
        return None
    sound = np.isfinite(rows).all(axis=1) & (rows[:, 5] >= 0) & (rows[:, 5] < classes)
    if keypoints is not None:
        sound &= np.isfinite(keypoints).all(axis=(1, 2))
    return sound


def _nms(rows: NDArray[np.float32], iou: float) -> NDArray[np.intp]:
    """Return the indices of ``rows`` that greedy suppression within each class keeps."""
    xywh = rows[:, :4].copy()
    xywh[:, 2:] -= xywh[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(
        xywh.tolist(), rows[:, 4].tolist(), rows[:, 5].astype(int).tolist(), 0.0, iou
    )
    return np.sort(np.asarray(kept, np.intp).reshape(-1))  # rows come best first


def _unmap_keypoints(keypoints: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    mapped = keypoints.copy()
    mapped[..., :2] = geometry.unmap_points(keypoints[..., :2])
    return mapped

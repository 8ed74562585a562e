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

    Boxes are clipped to the picture, whose ``size`` is (height, width). Returns the detections
    and how many rows were thrown away because they held NaN, infinity or no class of the
    model's, which only a broken model gives.
    """
    sound = np.isfinite(rows).all(axis=1)
    sound &= (rows[:, 5] >= 0) & (rows[:, 5] < len(wanted.counted_as))
    if keypoints is not None:
        sound &= np.isfinite(keypoints).all(axis=(1, 2))
    broken = int(np.count_nonzero(~sound))
    keep = np.flatnonzero(sound & (rows[:, 4] >= wanted.confidence))
    if wanted.class_ids is not None:
        keep = keep[np.isin(rows[keep, 5], list(wanted.class_ids))]
    if nms_iou is not None:
        keep = keep[_nms(rows[keep], nms_iou)]
    kept = rows[keep]
    height, width = size
    corners = geometry.unmap_points(kept[:, :4].reshape(-1, 2, 2))
    np.clip(corners, 0, np.array([width, height], np.float32), out=corners)
    return Detections(
        xyxy=corners.reshape(-1, 4),
        confidence=kept[:, 4].copy(),
        class_id=kept[:, 5].astype(np.int64),
        keypoints=None if keypoints is None else _unmap_keypoints(keypoints[keep], geometry),
    ), broken


def _nms(rows: NDArray[np.float32], iou: float) -> NDArray[np.intp]:
    """Return the indices of ``rows`` that greedy suppression within each class keeps."""
    if len(rows) == 0:
        return np.zeros(0, np.intp)
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

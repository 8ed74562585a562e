"""The graph appended to a network: from its maps to detections.

The decode is CenterNet's ("Objects as Points", Zhou et al., 2019, section 4; `ctdet_decode` and
`multi_pose_decode` of xingyizhou/CenterNet): peaks of 3x3 neighbourhoods, the best K per class,
then the best K overall. All operators are supported by TensorRT, and the batch stays dynamic.
"""

import numpy as np
from onnx import TensorProto

from centernetd.prepare.cells import Grid, at
from centernetd.prepare.graph import Value
from centernetd.prepare.joints import Joints, Point
from centernetd.prepare.layouts import Layout, Maps, Regression


def decode(
    maps: Maps, layout: Layout, classes: int, joints: int, grid: Grid
) -> tuple[Value, Value | None]:
    """Return detections [batch, K, 6] and keypoints [batch, K, J, 3] or None.

    K is ``grid.count``.
    """
    scores, class_id, cell = _best(maps.scores, classes, grid)
    found = layout.regression(_pick(maps, classes, joints, class_id, cell))

    corner = grid.place(cell)
    centre = scores.graph.concat(*corner, axis=1) + found.offset
    half = found.size / 2.0
    low, high = centre - half, centre + half
    stride = float(layout.STRIDE)
    parts = [low * stride, high * stride, scores, class_id.cast(TensorProto.FLOAT)]
    detections = scores.graph.concat(*parts, axis=1).transpose(0, 2, 1)
    if found.landmarks is None:
        return detections, None
    points = Joints.regressed(found.landmarks, corner, joints)
    if maps.joints is not None:
        points = points.moved(maps.joints, _point(low), _point(high), grid, joints)
    return detections, points.rows(stride)


def _best(scores: Value, classes: int, grid: Grid) -> tuple[Value, Value, Value]:
    """Return scores, classes and cells of the best peaks, each [batch, 1, K], best first."""
    scores, cell = grid.best_of_each(scores, classes)
    scores, place = scores.reshape(0, 1, classes * grid.count).top(grid.count)
    cell = cell.reshape(0, 1, classes * grid.count).gather(place, axis=2)
    return scores, place / grid.count, cell


def _pick(maps: Maps, classes: int, joints: int, class_id: Value, cell: Value) -> Regression:
    """Read size, offset and landmarks at the cells [batch, 1, K]."""
    offset = cell.graph.constant(np.full((1, 2, 1), 0.5))
    if maps.offset is not None:
        offset = at(maps.offset, cell, 2)
    landmarks = maps.landmarks and at(maps.landmarks, cell, 2 * joints)
    if not maps.size_per_class:
        return Regression(at(maps.size, cell, 2), offset, landmarks)
    every = at(maps.size, cell, 2 * classes)
    chosen = [class_id * 2 + axis for axis in (0, 1)]
    return Regression(every.gather(cell.graph.concat(*chosen, axis=1), axis=1), offset, landmarks)


def _point(both: Value) -> Point:
    """Split [batch, 2, K] into x and y."""
    return both.part(0, 1, axis=1), both.part(1, 2, axis=1)

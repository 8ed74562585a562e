"""The graph behind a network: from its maps to detections.

The decode is CenterNet's own ("Objects as Points", Zhou et al., 2019, section 4; `ctdet_decode`
of xingyizhou/CenterNet): peaks of 3x3 neighbourhoods, the best K of each class, then of all.
Only operators that TensorRT parses are used, and nothing fixes the batch.
"""

from onnx import TensorProto

from daemon.model.graph import Value
from daemon.model.layouts import Layout, Maps, Regression


def decode(
    maps: Maps, layout: Layout, classes: int, grid: tuple[int, int], top_k: int
) -> tuple[Value, Value | None]:
    """Return detections [batch, K, 6] and keypoints [batch, K, J, 3] or None.

    K is `top_k` or, where there are fewer, the number of cells.
    """
    rows, columns = grid
    count = min(top_k, rows * columns)
    scores, class_id, cell = _best(_suppress(maps.scores), classes, rows * columns, count)
    found = layout.regression(_pick(maps, len(layout.joints), cell))

    row = cell / columns
    column = cell - row * columns
    corner = maps.scores.graph.concat(column, row, axis=1).cast(TensorProto.FLOAT)
    centre = corner + found.offset
    half = found.size / 2.0
    box = [(centre - half) * float(layout.STRIDE), (centre + half) * float(layout.STRIDE)]
    detections = scores.graph.concat(*box, scores, class_id.cast(TensorProto.FLOAT), axis=1)
    return detections.transpose(0, 2, 1), _keypoints(found, corner, layout, count)


def _suppress(scores: Value) -> Value:
    """Set every score that a neighbour exceeds to 0."""
    highest = scores.then("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return scores * scores.then("Equal", highest).cast(TensorProto.FLOAT)


def _best(peaks: Value, classes: int, cells: int, count: int) -> tuple[Value, Value, Value]:
    """Return scores, classes and cells of the best, each [batch, 1, K], best first."""
    scores, cell = peaks.reshape(0, classes, cells).top(count)
    scores, place = scores.reshape(0, 1, classes * count).top(count)
    cell = cell.reshape(0, 1, classes * count).gather(place, axis=2)
    return scores, place / count, cell


def _pick(maps: Maps, joints: int, cell: Value) -> Regression:
    """Take size, offset and landmarks of the cells [batch, 1, K]."""
    parts = [maps.size, maps.offset] + ([maps.landmarks] if maps.landmarks else [])
    width = 4 + 2 * joints
    every = cell.then("Expand", cell.graph.constant([1, width, 1]))
    picked = cell.graph.concat(*parts, axis=1).gather(every, axis=2)
    landmarks = picked.part(4, width, axis=1) if joints else None
    return Regression(picked.part(0, 2, axis=1), picked.part(2, 4, axis=1), landmarks)


def _keypoints(found: Regression, corner: Value, layout: Layout, count: int) -> Value | None:
    """Return [batch, K, J, 3] in input pixels; a layout without joint scores gives them 1."""
    if found.landmarks is None:
        return None
    joints = len(layout.joints)
    places = (found.landmarks + corner.pick([0, 1] * joints, axis=1)) * float(layout.STRIDE)
    points = places.transpose(0, 2, 1).reshape(0, count, joints, 2)
    ones = points.part(0, 1, axis=3) * 0.0 + 1.0
    return points.graph.concat(points, ones, axis=3)

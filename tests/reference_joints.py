"""The reference decode of joints in NumPy: CenterNet's `multi_pose_decode` for one frame.

Nothing here is shared with the graph that it is held against.
"""

from collections.abc import Mapping

import numpy as np

from tests.reference import STRIDE, Array, Decoded, ctdet, sigmoid, suppress


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

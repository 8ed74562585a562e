"""Whether a frame yields the same detections alone as it does in a batch."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

# int8 kernels for one frame and for several may round differently, which reorders nearly equal
# scores. In a row that is actually wrong, almost every value is far off.
_SCORE = 0.05
_PIXELS = 2.0
_RELATIVE = 0.02
_SHARE = 0.9
_TIED = 1e-4  # from the last score: which of several tied detections make the list is undefined
_MOST = 100  # only the best detections are compared


def is_same(
    alone: Rows, shared: Rows, joints_alone: Rows | None = None, joints_shared: Rows | None = None
) -> bool:
    """Compare the detections [K, 6] of a frame and, if present, its keypoints [K, J, 3].

    Order is ignored, as are detections that aren't finite or score no better than the last.
    """
    if not np.allclose(alone[:, 4], shared[:, 4], atol=_SCORE, equal_nan=True):
        return False
    finite = np.isfinite(alone).all(axis=1)
    lowest = alone[finite, 4].min(initial=np.inf)
    certain = np.flatnonzero(finite & (alone[:, 4] > lowest + _TIED))[:_MOST]
    if not len(certain):
        return True
    mine, others = alone[certain, None], shared[None]
    near = _near(mine[..., :5], others[..., :5]) & (mine[..., 5] == others[..., 5])
    if near.any(axis=1).mean() < _SHARE:
        return False
    if joints_alone is None or joints_shared is None:
        return True
    apart = np.abs(mine[..., :5] - others[..., :5]).sum(axis=2)
    nearest = np.where(near, apart, np.inf).argmin(axis=1)
    return bool(_near(joints_alone[certain], joints_shared[nearest]).mean() >= _SHARE)


def _near(one: Rows, other: Rows) -> Flags:
    """Compare coordinates, and the score in the last column, along the last axis."""
    apart = np.abs(one - other)
    places = apart[..., :-1] <= _PIXELS + _RELATIVE * np.abs(one[..., :-1])
    close: Flags = places.all(axis=-1) & (apart[..., -1] <= _SCORE)
    return close

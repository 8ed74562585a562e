"""Whether a frame gives the same alone and beside another in a batch."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

# Between kernels for one frame and for several, int8 may round some values otherwise, and the
# order of scores that are nearly the same differs. Of a wrong row, nearly all is far off.
_SCORE = 0.05
_PIXELS = 2.0
_RELATIVE = 0.02
_SHARE = 0.9
_TIED = 1e-4  # with the last score: which of those as good come into the list is left open
_MOST = 100  # detections, the best


def is_same(
    alone: Rows, shared: Rows, joints_alone: Rows | None = None, joints_shared: Rows | None = None
) -> bool:
    """Compare the detections [K, 6] of a frame, and its keypoints [K, J, 3] where there are any.

    Their order doesn't count, nor do those that aren't finite or no better than the last.
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
    """Compare places, and the score behind them, along the last axis."""
    apart = np.abs(one - other)
    places = apart[..., :-1] <= _PIXELS + _RELATIVE * np.abs(one[..., :-1])
    close: Flags = places.all(axis=-1) & (apart[..., -1] <= _SCORE)
    return close

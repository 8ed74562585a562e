"""What the letterbox kernel computes, stated in float64 and in another order of steps.

The whole picture is converted, clamped, turned and then sampled; the kernel goes from a pixel of
the input to the four samples it needs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Orientation

KR_KB = {
    "709": (0.2126, 0.0722),
    "601": (0.299, 0.114),
    "2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "240m": (0.212, 0.087),
}
NUMBERS = {"709": 1, "fcc": 4, "601": 6, "240m": 7, "2020": 9}


def to_bgr(
    luma: NDArray[np.float64], pairs: NDArray[np.float64], weights: str, *, full_range: bool
) -> NDArray[np.float64]:
    """Return [h, w, 3] of luma [h, w] and chroma [ceil(h/2), ceil(w/2), 2] in units of 8 bits."""
    kr, kb = KR_KB[weights]
    y = luma / 255 if full_range else (luma - 16) / 219
    height, width = luma.shape
    spread = pairs.repeat(2, 0).repeat(2, 1)[:height, :width]
    cb, cr = np.moveaxis((spread - 128) / (255 if full_range else 224), 2, 0)
    red = y + 2 * (1 - kr) * cr
    blue = y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.asarray(np.clip(np.stack([blue, green, red], 2) * 255, 0, 255), np.float64)


def turned(picture: NDArray[np.float64], orientation: Orientation) -> NDArray[np.float64]:
    """Return ``picture`` as it is to be shown."""
    a, b, c, d = orientation
    if b:
        picture = picture.swapaxes(0, 1)
    return picture[:: b or d, :: a or c]


def sampled(
    picture: NDArray[np.float64],
    scale: Sequence[float],
    shift: Sequence[float],
    size: Sequence[int],
) -> NDArray[np.float64]:
    """Return [*size, 3]: pixel (x, y) is bilinear at ((x - shift) / scale), 0 outside of it."""
    rows, columns = size
    x = (np.arange(columns) - shift[0]) / scale[0]
    y = (np.arange(rows) - shift[1]) / scale[1]
    down, across = _weights(y, picture.shape[0]), _weights(x, picture.shape[1])
    return np.moveaxis(down @ np.moveaxis(picture, 2, 0) @ across.T, 0, 2)


def _weights(at: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Return [len(at), count]: the share of each sample in each output."""
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count))), np.float64)

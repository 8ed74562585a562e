"""Mapping between source pixels and input pixels."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """An axis-aligned map from source pixels to input pixels: x' = sx * x + tx, likewise y."""

    sx: float
    sy: float
    tx: float
    ty: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The map as the [2, 3] matrix for `cv2.warpAffine`."""
        return np.array([[self.sx, 0.0, self.tx], [0.0, self.sy, self.ty]])

    @cached_property
    def inverse(self) -> tuple[float, float, float, float, float, float]:
        """The rows of the [2, 3] matrix from input pixels to source pixels."""
        return 1 / self.sx, 0.0, -self.tx / self.sx, 0.0, 1 / self.sy, -self.ty / self.sy


@lru_cache(maxsize=256)
def letterbox_geometry(source: tuple[int, int], target: tuple[int, int]) -> Geometry:
    """Fit ``source`` (height, width) into ``target``, centred, keeping the aspect ratio.

    This is the map of CenterNet's own test-time transform for fixed resolutions.
    """
    (h, w), (height, width) = source, target
    s = min(width / w, height / h)
    return Geometry(s, s, (width - s * w) / 2, (height - s * h) / 2)


@lru_cache(maxsize=256)
def stretch_geometry(source: tuple[int, int], target: tuple[int, int]) -> Geometry:
    """Stretch ``source`` (height, width) to fill ``target``."""
    (h, w), (height, width) = source, target
    return Geometry(width / w, height / h, 0.0, 0.0)


GEOMETRIES = {"letterbox": letterbox_geometry, "stretch": stretch_geometry}


def fill_row(image: NDArray[np.uint8], row: NDArray[np.uint8], geometry: Geometry) -> None:
    """Write ``image`` through ``geometry`` into ``row`` [H, W, 3], in place, border 0."""
    height, width, _ = row.shape
    written = cv2.warpAffine(
        image, geometry.matrix, (width, height), flags=cv2.INTER_LINEAR, dst=row
    )
    # OpenCV silently allocates a new array if dst does not fit.
    if written.ctypes.data != row.ctypes.data:
        raise RuntimeError(f"a row of shape {row.shape} can't be written in place")

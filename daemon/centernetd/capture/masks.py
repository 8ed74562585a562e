"""Covering the masked regions of a source's pictures, before anything else sees them."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.capture.source import Picture, Source, SourceInfo
from centernetd.config.values import Point
from centernetd.flow import HostImage

GREY = 128
MARGIN = 3
"""Pixels around a mask that are covered too.

Drawing rounds by up to two, and with subsampled chroma the colour of a pixel is shared with the
next one.
"""


class MaskedSource(Source):
    """Another source, with the pixels inside masks replaced by uniform grey, in host memory."""

    def __init__(self, source: Source, masks: Collection[Sequence[Point]]) -> None:
        """Mask the pictures of ``source``; see `config.values.Polygon` for ``masks``."""
        self._source = source
        self._masks = list(masks)
        self._covered = np.zeros((0, 0), np.uint8)  # 255 inside the masks, for the present size
        self._grey = np.zeros((0, 0, 3), np.uint8)

    @property
    def info(self) -> SourceInfo:
        """Properties of the source."""
        return self._source.info

    @property
    def damaged(self) -> int:
        """As of the source."""
        return self._source.damaged

    @property
    def held_back(self) -> int:
        """As of the source."""
        return self._source.held_back

    def __iter__(self) -> Iterator[Picture]:
        """Yield the masked pictures; raises as the source does.

        Raises
        ------
        EngineError
            When a picture can't be copied from the GPU.
        """
        for picture in self._source:
            started = time.monotonic()
            image = picture.image.pixels()
            self._mask(image)
            took = picture.decode_seconds + time.monotonic() - started
            yield replace(picture, image=HostImage(image), decode_seconds=took)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _mask(self, image: NDArray[np.uint8]) -> None:
        """Cover ``image`` in place."""
        if image.shape[:2] != self._covered.shape:
            self._covered = covered(self._masks, image.shape[:2])
            self._grey = np.full_like(image, GREY)
        if cv2.copyTo(self._grey, self._covered, image).ctypes.data != image.ctypes.data:
            raise RuntimeError(f"a picture of shape {image.shape} can't be masked in place")


def covered(masks: Collection[Sequence[Point]], size: Sequence[int]) -> NDArray[np.uint8]:
    """Return what to cover in a picture of ``size`` (height, width): uint8 [h, w], 255 or 0.

    That includes every pixel that a mask touches.
    """
    height, width = size
    found = np.zeros((height + 2 * MARGIN, width + 2 * MARGIN), np.uint8)  # rounding leads out too
    for mask in masks:
        corners = np.rint(np.array(mask) * (width, height) - 0.5).astype(np.int32)
        cv2.fillPoly(found, [corners + MARGIN], 255)
    grown = cv2.dilate(found, np.ones([2 * MARGIN + 1] * 2, np.uint8))
    return np.array(grown[MARGIN:-MARGIN, MARGIN:-MARGIN], np.uint8)

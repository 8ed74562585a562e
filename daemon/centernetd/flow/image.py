"""Pictures, wherever their pixels are."""

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Image(Protocol):
    """An upright picture of ``size`` (height, width) that takes ``nbytes`` of some memory.

    ``on_gpu`` is whether that is a GPU's.
    """

    on_gpu: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """The height and width in pixels."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are held."""

    def pixels(self) -> NDArray[np.uint8]:
        """Return the pixels in host memory, uint8 [height, width, 3] in BGR order.

        It is the same array at every call, and its rows may be padded. Callable in any thread.
        """

    def lines(self, step: int) -> NDArray[np.uint8]:
        """Return every ``step``-th line, or part of it, uint8 [lines, ...], for comparisons.

        It costs less than `pixels`.
        """


class NoPixels(Image):
    """A picture of ``size`` without its pixels, for sinks that don't need them."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size

    @property
    def size(self) -> tuple[int, int]:
        """The height and width in pixels."""
        return self._size

    @property
    def nbytes(self) -> int:
        """0."""
        return 0

    def pixels(self) -> NDArray[np.uint8]:
        """Raise RuntimeError: the caller should have been registered as needing pixels."""
        raise RuntimeError("the pixels of this picture were not passed on")

    def lines(self, step: int) -> NDArray[np.uint8]:
        """Raise as `pixels` does."""
        return self.pixels()


@lru_cache(maxsize=256)
def no_pixels(size: tuple[int, int]) -> NoPixels:
    """Return the picture of this size without its pixels; there is one for all frames."""
    return NoPixels(size)


class HostImage(Image):
    """A picture in host memory, uint8 [height, width, 3] in BGR order."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels

    @property
    def size(self) -> tuple[int, int]:
        """The height and width in pixels."""
        return self._pixels.shape[:2]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are held."""
        return self._pixels.nbytes

    def pixels(self) -> NDArray[np.uint8]:
        """Return the array itself."""
        return self._pixels

    def lines(self, step: int) -> NDArray[np.uint8]:
        """Return every ``step``-th line."""
        return self._pixels[::step]

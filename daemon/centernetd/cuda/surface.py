"""Decoded pictures that stay on the GPU."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from centernetd.cuda.device import Device
from centernetd.cuda.memory import copy_rows_out
from centernetd.flow import Image, Orientation


class Plane(NamedTuple):
    """One plane of a picture: its device address, and the bytes from one line to the next."""

    address: int
    pitch: int


class Surface(Image):
    """A picture in NV12 or P010 in GPU memory, which stays valid until ``owner`` is freed.

    Luma comes first, then chroma at half the size, U and V interleaved. With ``wide``, samples
    have 16 bits, of which the upper ones are significant. ``matrix`` is the number of the colour
    matrix in ITU-T H.273, table 4; ``full_range`` means 0..255, not 16..235. ``orientation`` is
    how the picture is to be turned; ``size`` is that of the turned picture.
    """

    on_gpu = True

    def __init__(
        self,
        owner: object,
        planes: tuple[Plane, Plane],
        size: tuple[int, int],
        *,
        device: Device,
        wide: bool,
        matrix: int,
        full_range: bool,
        orientation: Orientation,
        fetch: Callable[[Any], NDArray[np.uint8]],
    ) -> None:
        """Describe the picture of ``owner`` on ``device``; ``size`` is its (height, width) there.

        ``fetch`` returns ``owner`` as `Image.pixels` does.
        """
        self._owner = owner
        self._device = device
        self.luma, self.chroma = planes
        self.decoded_size = size
        self._size = size[::-1] if orientation[1] else size
        self.wide = wide
        self.matrix = matrix
        self.full_range = full_range
        self.orientation = orientation
        self._fetch = fetch
        self._pixels: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the turned picture, in pixels."""
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory."""
        return self.luma.pitch * self.decoded_size[0] * 3 // 2

    def pixels(self) -> NDArray[np.uint8]:
        """Copy the picture to host memory, once; see `Image.pixels`.

        Raises
        ------
        CudaError
            When the GPU fails.
        """
        with self._lock:
            if self._pixels is None:
                self._pixels = self._fetch(self._owner)
            return self._pixels

    def lines(self, step: int) -> NDArray[np.uint8]:
        """Return every ``step``-th line of luma, uint8 [lines, bytes]; raises as `pixels`."""
        height, width = self.decoded_size
        found = np.empty((-(-height // step), width * (2 if self.wide else 1)), np.uint8)
        pitch = self.luma.pitch * step
        self._device.use()
        copy_rows_out(found.ctypes.data, found.shape[1], self.luma.address, pitch, len(found))
        return found

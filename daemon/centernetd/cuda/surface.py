"""Decoded pictures that stay on the GPU."""

import threading
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from centernetd.cuda.device import Device
from centernetd.cuda.memory import copy_rows_out
from centernetd.flow import Image, Orientation


class Plane(NamedTuple):
    """One plane of a picture: its device address, and the bytes from one line to the next."""

    address: int
    pitch: int


class SurfaceFormat(NamedTuple):
    """What consecutive pictures of one source have in common.

    ``size`` is the (height, width) of the turned picture, ``decoded_size`` that in memory. With
    ``wide``, samples have 16 bits, of which the upper ones are significant. ``matrix`` is the
    number of the colour matrix in ITU-T H.273, table 4; ``full_range`` means 0..255, not 16..235.
    ``orientation`` is how the picture is to be turned.
    """

    size: tuple[int, int]
    decoded_size: tuple[int, int]
    wide: bool
    matrix: int
    full_range: bool
    orientation: Orientation


class SurfaceSource(Protocol):
    """A decoder, as long as it decodes pictures of one format; it knows what it returned."""

    form: SurfaceFormat
    device: Device
    fetching: threading.Lock
    """Held while a picture is fetched."""

    def planes(self, picture: Any) -> tuple[Plane, Plane]:  # noqa: ANN401 (its own pictures)
        """Return where a picture is: luma first, then chroma at half the size, interleaved."""

    def fetch(self, picture: Any) -> NDArray[np.uint8]:  # noqa: ANN401 (likewise)
        """Return a picture as `Image.pixels` does; called with ``fetching`` held.

        Raises
        ------
        CudaError
            When the GPU fails.
        """


class Surface(Image):
    """A picture in NV12 or P010 in GPU memory, which stays valid until ``owner`` is freed."""

    on_gpu = True

    def __init__(self, owner: object, source: SurfaceSource) -> None:
        """Describe the picture ``owner``, which ``source`` has returned.

        It is made for every picture, by a thread per stream: all else can wait until it is needed.
        """
        self._owner, self._source = owner, source
        self._planes: tuple[Plane, Plane] | None = None
        self._pixels: NDArray[np.uint8] | None = None

    @property
    def form(self) -> SurfaceFormat:
        """The picture's format."""
        return self._source.form

    @property
    def planes(self) -> tuple[Plane, Plane]:
        """Where luma and chroma are."""
        planes = self._planes
        if planes is None:
            planes = self._planes = self._source.planes(self._owner)
        return planes

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the turned picture, in pixels."""
        return self._source.form.size

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory."""
        return self.planes[0].pitch * self.form.decoded_size[0] * 3 // 2

    def pixels(self) -> NDArray[np.uint8]:
        """Copy the picture to host memory, once; see `Image.pixels`.

        Raises
        ------
        CudaError
            When the GPU fails.
        """
        with self._source.fetching:
            if self._pixels is None:
                self._pixels = self._source.fetch(self._owner)
            return self._pixels

    def lines(self, step: int) -> NDArray[np.uint8]:
        """Return every ``step``-th line of luma, uint8 [lines, bytes]; raises as `pixels`."""
        height, width = self.form.decoded_size
        found = np.empty((-(-height // step), width * (2 if self.form.wide else 1)), np.uint8)
        luma, pitch = self.planes[0]
        self._source.device.use()
        copy_rows_out(found.ctypes.data, found.shape[1], luma, pitch * step, len(found))
        return found

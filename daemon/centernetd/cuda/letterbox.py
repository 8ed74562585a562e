"""The kernel that letterboxes decoded pictures into the rows of a batch, on the GPU."""

import ctypes
from functools import lru_cache
from importlib.resources import files
from struct import Struct

import numpy as np

from centernetd.cuda.calls import CudaError, call, release
from centernetd.cuda.memory import DeviceBuffer
from centernetd.cuda.owned import Owned
from centernetd.cuda.stream import CudaStream
from centernetd.cuda.surface import Surface, SurfaceFormat

JOB = Struct("<QQ4i6f6f2i")
"""What to do for one row of a batch, as `letterbox.cu` reads it."""
_SHOWN = 1
_NOTHING = bytes(JOB.size)

_BLOCK = (32, 8)  # threads: columns, rows
_ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)

# Kr and Kb by number of the matrix; ITU-T H.273 (07/2024), table 4.
_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}

Affine = tuple[float, float, float, float, float, float]
"""The rows of a [2, 3] matrix."""


def colours(matrix: int, full_range: bool) -> tuple[float, float, float, float, float, float]:
    """Return black, gain, r_v, g_u, g_v and b_u for samples of 8 bits: ITU-T H.273, 8.3.

    R = gain * (Y - black) + r_v * (V - 128), likewise G and B.
    """
    red, blue = _WEIGHTS[matrix]
    green = 1 - red - blue
    black, gain, chroma = (0.0, 1.0, 1.0) if full_range else (16.0, 255 / 219, 255 / 224)
    r_v, b_u = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    return black, gain, r_v, -b_u * blue / green, -r_v * red / green, b_u


def turned_back(
    to_upright: Affine, size: tuple[int, int], orientation: tuple[int, int, int, int]
) -> Affine:
    """Return ``to_upright``, a map to pixels of the turned picture, as one to decoded pixels.

    ``size`` is the decoded (height, width).
    """
    height, width = size
    a, b, c, d = orientation
    across, down = np.array(to_upright).reshape(2, 3)
    if (a or c) < 0:
        across = np.array([0, 0, (height if b else width) - 1]) - across
    if (b or d) < 0:
        down = np.array([0, 0, (width if b else height) - 1]) - down
    x, y = (down, across) if b else (across, down)
    return (*x.tolist(), *y.tolist())


def leave(jobs: memoryview, row: int) -> None:
    """Write the job of ``row`` into ``jobs``, the bytes of all: to leave the row as it is."""
    jobs[row * JOB.size : (row + 1) * JOB.size] = _NOTHING


def describe(jobs: memoryview, row: int, surface: Surface, to_upright: Affine) -> None:
    """Write the job of ``row`` into ``jobs``, the bytes of all: to show ``surface``.

    ``to_upright`` maps pixels of the row to pixels of the turned picture.
    """
    (luma, luma_pitch), (chroma, chroma_pitch) = surface.planes
    rest = _described(surface.form, to_upright)
    JOB.pack_into(jobs, row * JOB.size, luma, chroma, luma_pitch, chroma_pitch, *rest)


@lru_cache(maxsize=256)
def _described(form: SurfaceFormat, to_upright: Affine) -> tuple[float, ...]:
    """Return what is the same in the jobs of all pictures of one format."""
    height, width = size = form.decoded_size
    return (
        *(width, height),
        *turned_back(to_upright, size, form.orientation),
        *colours(form.matrix, form.full_range),
        *(form.wide, _SHOWN),
    )


class Letterbox(Owned):
    """The kernel, loaded on the current device, which compiles it for itself."""

    def __init__(self) -> None:
        """Load the kernel.

        Raises
        ------
        CudaError
            When the GPU or its driver can't run it.
        """
        ptx = files("centernetd.cuda").joinpath("letterbox.ptx").read_bytes()
        self._module = call("cuModuleLoadData", ptx + b"\0")
        self._acquired()
        try:
            self._function = call("cuModuleGetFunction", self._module, b"letterbox")
        except CudaError:
            self.close()
            raise

    def launch(
        self,
        jobs: DeviceBuffer,
        count: int,
        rows: DeviceBuffer,
        size: tuple[int, int],
        cuda_stream: CudaStream,
    ) -> None:
        """Enqueue ``count`` jobs for the first of ``rows``, uint8 [N, height, width, 3].

        ``size`` is (height, width). Bilinear; 0 outside of the picture.

        Raises
        ------
        CudaError
            When the GPU has failed.
        """
        height, width = size
        grid = (-(-width // _BLOCK[0]), -(-height // _BLOCK[1]), count)
        arguments = ((jobs.address, rows.address, height, width), _ARGUMENTS)
        call(
            "cuLaunchKernel",
            self._function,
            *grid,
            *_BLOCK,
            1,
            0,
            cuda_stream.handle,
            arguments,
            0,
        )

    def _free(self) -> None:
        release("cuModuleUnload", self._module)
        self._freed()

"""Pictures in GPU memory, and batches letterboxed from them: on the simulated GPU or a real one."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from centernetd.cuda import (
    JOB,
    CudaStream,
    Device,
    DeviceBuffer,
    Letterbox,
    PinnedBuffer,
    Plane,
    Surface,
    SurfaceFormat,
    SurfaceSource,
    copy_async,
    describe,
    leave,
)
from centernetd.flow import Orientation
from centernetd.inference.letterbox import letterbox_geometry
from tests import reference_letterbox

ORIENTATIONS: list[Orientation] = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (-1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, -1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, -1, 0),
]


class Picture:
    """A random picture in the memory of the GPU, with what surrounds it."""

    def __init__(self, size: tuple[int, int], *, wide: bool, seed: int) -> None:
        height, width = size
        random = np.random.default_rng(seed)
        self.size, self.wide = size, wide
        dtype, most = (np.dtype("<u2"), 1 << 16) if wide else (np.dtype("u1"), 256)
        halves = -(-height // 2), -(-width // 2), 2
        self.luma = random.integers(0, most, size, dtype)
        self.chroma = random.integers(0, most, halves, dtype)
        self.memory: list[DeviceBuffer] = []
        self.planes = self._copy(self.luma), self._copy(self.chroma.reshape(halves[0], -1))

    def _copy(self, samples: NDArray[np.integer]) -> Plane:
        pitch = -(-samples.strides[0] // 256) * 256
        padded = np.full((len(samples), pitch), 0xAB, np.uint8)
        padded[:, : samples.strides[0]] = samples.view(np.uint8)
        with PinnedBuffer(padded.nbytes) as host, CudaStream() as stream:
            host.view(np.uint8, padded.shape)[:] = padded
            self.memory.append(DeviceBuffer(padded.nbytes))
            copy_async(self.memory[-1], host, padded.nbytes, stream)
            stream.synchronize()
        return Plane(self.memory[-1].address, pitch)

    def surface(self, matrix: int, orientation: Orientation, *, full_range: bool) -> Surface:
        turned = self.size[::-1] if orientation[1] else self.size
        form = SurfaceFormat(turned, self.size, self.wide, matrix, full_range, orientation)
        return Surface(self, _Shown(form))

    def close(self) -> None:
        for memory in self.memory:
            memory.close()


class _Shown(SurfaceSource):
    """Pictures in one format that are not to be fetched."""

    def __init__(self, form: SurfaceFormat) -> None:
        self.form, self.device, self.fetching = form, Device(0), threading.Lock()

    def planes(self, picture: Picture) -> tuple[Plane, Plane]:
        return picture.planes

    def fetch(self, picture: Picture) -> NDArray[np.uint8]:
        raise AssertionError


def run(
    surfaces: Sequence[Surface], rows: Sequence[int], batch: int, target: tuple[int, int]
) -> NDArray[np.uint8]:
    """Letterbox each surface into its row of a batch, and return the batch."""
    nbytes = batch * target[0] * target[1] * 3
    with (
        Letterbox() as kernel,
        CudaStream() as stream,
        PinnedBuffer(batch * JOB.size) as jobs,
        DeviceBuffer(jobs.nbytes) as jobs_there,
        DeviceBuffer(nbytes) as there,
        PinnedBuffer(nbytes) as host,
    ):
        table = jobs.view(np.uint8, (jobs.nbytes,)).data
        for row in range(batch):
            leave(table, row)
        for surface, row in zip(surfaces, rows, strict=True):
            describe(table, row, surface, letterbox_geometry(surface.size, target).inverse)
        copy_async(jobs_there, jobs, jobs.nbytes, stream)
        kernel.launch(jobs_there, batch, there, target, stream)
        copy_async(host, there, nbytes, stream)
        stream.synchronize()
        return host.view(np.uint8, (batch, *target, 3)).copy()


def expected(
    picture: Picture,
    weights: str,
    orientation: Orientation,
    target: tuple[int, int],
    *,
    full_range: bool,
) -> NDArray[np.float64]:
    """Return the row that the definition of the letterbox asks for."""
    unit = 256 if picture.wide else 1
    bgr = reference_letterbox.to_bgr(
        picture.luma / unit, picture.chroma / unit, weights, full_range=full_range
    )
    upright = reference_letterbox.turned(bgr, orientation)
    g = letterbox_geometry(upright.shape[:2], target)
    return reference_letterbox.sampled(upright, (g.sx, g.sy), (g.tx, g.ty), target)

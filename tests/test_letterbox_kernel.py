"""Letterboxing on the GPU: the kernel's arguments and the PTX that is shipped."""

import gc
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.cuda import DeviceBuffer, PinnedBuffer, Stream, copy_async
from centernetd.cuda.letterbox import JOB, Letterbox, describe
from centernetd.cuda.surface import Plane, Surface
from centernetd.flow import Orientation
from scripts import make_kernels
from tests import fake_cuda, reference_letterbox
from tests.fake_cuda import FakeCuda

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
SIZES = [(1, 1), (2, 3), (17, 31), (48, 64), (63, 20), (16, 16)]
TARGET = (24, 32)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    fake = FakeCuda()
    with fake_cuda.installed(fake):
        yield fake
        gc.collect()
        assert fake.lost or not any(fake.live().values())


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
        with PinnedBuffer(padded.nbytes) as host, Stream() as stream:
            host.view(np.uint8, padded.shape)[:] = padded
            self.memory.append(DeviceBuffer(padded.nbytes))
            copy_async(self.memory[-1], host, padded.nbytes, stream)
            stream.synchronize()
        return Plane(self.memory[-1].address, pitch)

    def surface(self, matrix: int, orientation: Orientation, *, full_range: bool) -> Surface:
        def never(_: object) -> NDArray[np.uint8]:
            raise AssertionError

        return Surface(
            self,
            self.planes,
            self.size,
            wide=self.wide,
            matrix=matrix,
            full_range=full_range,
            orientation=orientation,
            fetch=never,
        )

    def close(self) -> None:
        for memory in self.memory:
            memory.close()


def run(surfaces: list[Surface], rows: list[int], batch: int) -> NDArray[np.uint8]:
    """Letterbox each surface into its row of a batch; returns the batch."""
    nbytes = batch * TARGET[0] * TARGET[1] * 3
    with (
        Letterbox() as kernel,
        Stream() as stream,
        PinnedBuffer(len(rows) * JOB.itemsize) as jobs,
        DeviceBuffer(jobs.nbytes) as jobs_there,
        DeviceBuffer(nbytes) as there,
        PinnedBuffer(nbytes) as host,
    ):
        table = jobs.view(JOB, (len(rows),))
        for number, (surface, row) in enumerate(zip(surfaces, rows, strict=True)):
            describe(table[number : number + 1], row, surface, inverse(surface.size))
        copy_async(jobs_there, jobs, jobs.nbytes, stream)
        kernel.launch(jobs_there, len(rows), there, TARGET, stream)
        copy_async(host, there, nbytes, stream)
        stream.synchronize()
        return host.view(np.uint8, (batch, *TARGET, 3)).copy()


def geometry(size: tuple[int, int]) -> tuple[float, float, float]:
    """Return the scale, and the shift in x and y, of a letterbox."""
    scale = min(TARGET[0] / size[0], TARGET[1] / size[1])
    return scale, (TARGET[1] - scale * size[1]) / 2, (TARGET[0] - scale * size[0]) / 2


def inverse(size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    scale, x, y = geometry(size)
    return 1 / scale, 0.0, -x / scale, 0.0, 1 / scale, -y / scale


def expected(
    picture: Picture, weights: str, orientation: Orientation, *, full_range: bool
) -> NDArray[np.float64]:
    unit = 256 if picture.wide else 1
    bgr = reference_letterbox.to_bgr(
        picture.luma / unit, picture.chroma / unit, weights, full_range=full_range
    )
    upright = reference_letterbox.turned(bgr, orientation)
    scale, x, y = geometry(upright.shape[:2])
    return reference_letterbox.sampled(upright, (scale, scale), (x, y), TARGET)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_every_picture_is_as_its_definition_says(
    cuda: FakeCuda, size: tuple[int, int], full_range: bool, wide: bool
) -> None:
    cases = list(itertools.product(reference_letterbox.NUMBERS, ORIENTATIONS))
    pictures = [Picture(size, wide=wide, seed=seed) for seed in range(len(cases))]
    surfaces = [
        picture.surface(reference_letterbox.NUMBERS[weights], orientation, full_range=full_range)
        for picture, (weights, orientation) in zip(pictures, cases, strict=True)
    ]
    batch = run(surfaces, list(range(len(cases))), len(cases))
    for row, picture, (weights, orientation) in zip(batch, pictures, cases, strict=True):
        exact = expected(picture, weights, orientation, full_range=full_range)
        assert np.abs(row - exact).max() <= 0.51, (weights, orientation)
        picture.close()


def test_other_rows_are_left_alone(cuda: FakeCuda) -> None:
    picture = Picture((9, 9), wide=False, seed=0)
    surface = picture.surface(1, (1, 0, 0, 1), full_range=False)
    batch = run([surface, surface], [3, 1], 4)
    assert np.array_equal(batch[1], batch[3])
    assert (batch[[0, 2]] == 0xCD).all()
    picture.close()


def test_a_picture_given_back_early_would_be_noticed(cuda: FakeCuda) -> None:
    picture = Picture((9, 9), wide=False, seed=0)
    surface = picture.surface(1, (1, 0, 0, 1), full_range=False)
    picture.close()
    with pytest.raises(Exception, match="cudaErrorIllegalAddress"):
        run([surface], [0], 1)


def test_lines_of_luma(cuda: FakeCuda) -> None:
    for wide in (False, True):
        picture = Picture((11, 7), wide=wide, seed=3)
        lines = picture.surface(1, (0, 1, 1, 0), full_range=False).lines(4)
        assert np.array_equal(lines.view(picture.luma.dtype), picture.luma[::4])
        picture.close()


def test_the_ptx_is_that_of_the_source() -> None:
    assert make_kernels.PTX.read_text() == make_kernels.compile_ptx(make_kernels.SOURCE.read_text())


def test_the_driver_reads_jobs_as_they_are_written() -> None:
    assert JOB.itemsize == 88
    assert JOB.fields is not None
    offsets = [offset for _, offset, *_ in JOB.fields.values()]
    assert offsets == [0, 8, 16, 20, 24, 28, 32, 56, 60, 64, 68, 72, 76, 80, 84]

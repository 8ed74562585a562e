"""Letterboxing on the GPU: the kernel's arguments and the PTX that is shipped."""

import gc
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from centernetd.cuda import JOB
from scripts.make_kernels import PTX
from tests import fake_cuda, fake_kernels, reference_letterbox
from tests.fake_cuda import FakeCuda
from tests.surfaces import ORIENTATIONS, Picture, expected, run

ROOT = Path(__file__).parents[1]
SIZES = [(1, 1), (2, 3), (17, 31), (48, 64), (63, 20), (16, 16)]
TARGET = (24, 32)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    fake = FakeCuda()
    with fake_cuda.installed(fake):
        yield fake
        gc.collect()
        assert fake.lost or not any(fake.live().values())


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_every_picture_is_as_its_definition_requires(
    cuda: FakeCuda, size: tuple[int, int], full_range: bool, wide: bool
) -> None:
    cases = list(itertools.product(reference_letterbox.NUMBERS, ORIENTATIONS))
    pictures = [Picture(size, wide=wide, seed=seed) for seed in range(len(cases))]
    surfaces = [
        picture.surface(reference_letterbox.NUMBERS[weights], orientation, full_range=full_range)
        for picture, (weights, orientation) in zip(pictures, cases, strict=True)
    ]
    batch = run(surfaces, range(len(cases)), len(cases), TARGET)
    for row, picture, (weights, orientation) in zip(batch, pictures, cases, strict=True):
        exact = expected(picture, weights, orientation, TARGET, full_range=full_range)
        assert np.abs(row - exact).max() <= 0.51, (weights, orientation)
        picture.close()


def test_other_rows_are_left_alone(cuda: FakeCuda) -> None:
    picture = Picture((9, 9), wide=False, seed=0)
    surface = picture.surface(1, (1, 0, 0, 1), full_range=False)
    batch = run([surface, surface], [3, 1], 4, TARGET)
    assert np.array_equal(batch[1], batch[3])
    assert (batch[[0, 2]] == 0xCD).all()
    picture.close()


def test_a_picture_given_back_early_would_be_noticed(cuda: FakeCuda) -> None:
    picture = Picture((9, 9), wide=False, seed=0)
    surface = picture.surface(1, (1, 0, 0, 1), full_range=False)
    picture.close()
    with pytest.raises(Exception, match="cudaErrorIllegalAddress"):
        run([surface], [0], 1, TARGET)


def test_lines_of_luma(cuda: FakeCuda) -> None:
    for wide in (False, True):
        picture = Picture((11, 7), wide=wide, seed=3)
        lines = picture.surface(1, (0, 1, 1, 0), full_range=False).lines(4)
        assert np.array_equal(lines.view(picture.luma.dtype), picture.luma[::4])
        picture.close()


def test_the_ptx_is_that_of_the_source(tmp_path: Path) -> None:
    """In a process of its own, since the compiler sets the locale."""
    made = tmp_path / "made.ptx"
    subprocess.run([sys.executable, "-m", "scripts.make_kernels", made], cwd=ROOT, check=True)
    assert PTX.read_text() == made.read_text()


def test_the_driver_reads_jobs_as_they_are_written() -> None:
    assert JOB.size == fake_kernels.JOB.itemsize == 88
    assert fake_kernels.JOB.fields is not None
    offsets = [offset for _, offset, *_ in fake_kernels.JOB.fields.values()]
    assert offsets == [0, 8, 16, 20, 24, 28, 32, 56, 60, 64, 68, 72, 76, 80, 84]

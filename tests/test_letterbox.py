"""From source pixels to input pixels and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.inference.letterbox import (
    GEOMETRIES,
    Geometry,
    fill_row,
    letterbox_geometry,
    stretch_geometry,
)

SIDES = st.integers(1, 8192)
SIZES = st.tuples(SIDES, SIDES)


@given(SIZES, SIZES)
def test_letterboxing_is_the_documented_matrix(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    (h, w), (height, width) = source, target
    s = min(width / w, height / h)
    expected = [[s, 0, (width - s * w) / 2], [0, s, (height - s * h) / 2]]
    np.testing.assert_allclose(letterbox_geometry(source, target).matrix, expected, rtol=1e-12)


@given(SIZES, SIZES, st.sampled_from(sorted(GEOMETRIES)))
def test_the_whole_picture_lies_in_the_input(
    source: tuple[int, int], target: tuple[int, int], resize: str
) -> None:
    (h, w), (height, width) = source, target
    corners = np.array([[0, 0, 1], [w, h, 1]]) @ GEOMETRIES[resize](source, target).matrix.T
    assert corners.min() >= -1e-6
    assert (corners[1] <= np.array([width, height]) + 1e-6).all()
    touches = np.isclose(corners, [[0, 0], [width, height]], atol=1e-6).all(axis=0)
    assert touches.all() if resize == "stretch" else touches.any()


def test_stretching_fills_the_input() -> None:
    assert stretch_geometry((100, 200), (50, 400)) == Geometry(2.0, 0.5, 0.0, 0.0)


@given(SIZES, SIZES, st.sampled_from(sorted(GEOMETRIES)))
def test_unmapping_inverts_the_map(
    source: tuple[int, int], target: tuple[int, int], resize: str
) -> None:
    geometry = GEOMETRIES[resize](source, target)
    points = np.array([[0, 0], [source[1], source[0]], [source[1] / 3, source[0] / 7]])
    mapped = np.hstack([points, np.ones((3, 1))]) @ geometry.matrix.T
    inverse = np.reshape(geometry.inverse, (2, 3))
    back = np.hstack([mapped, np.ones((3, 1))]) @ inverse.T
    np.testing.assert_allclose(back, points, atol=1e-6)


def test_a_row_is_written_in_place_with_a_black_border_and_its_neighbours_left_alone() -> None:
    rows = np.full((3, 8, 8, 3), 77, np.uint8)
    image = np.full((4, 8, 3), 200, np.uint8)
    fill_row(image, rows[1], letterbox_geometry((4, 8), (8, 8)))
    assert (rows[0] == 77).all()
    assert (rows[2] == 77).all()
    assert (rows[1][:2] == 0).all()
    assert (rows[1][2:6] == 200).all()
    assert (rows[1][6:] == 0).all()


def test_nothing_of_the_former_picture_is_left() -> None:
    row = np.full((8, 8, 3), 255, np.uint8)
    fill_row(np.zeros((2, 9, 3), np.uint8), row, letterbox_geometry((2, 9), (8, 8)))
    assert not row.any()


def test_pictures_with_padded_rows_are_read_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    padded = np.zeros((9, 32), np.uint8)
    view = padded[:, :21].reshape(9, 7, 3)
    view[:] = image
    assert not view.flags.c_contiguous
    geometry = letterbox_geometry((9, 7), (16, 16))
    plain, strided = np.empty((2, 16, 16, 3), np.uint8)
    fill_row(image, plain, geometry)
    fill_row(view, strided, geometry)
    np.testing.assert_array_equal(plain, strided)


@pytest.mark.parametrize(
    "row",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.int8),
        np.zeros((8, 8, 6), np.uint8)[:, :, ::2],
        np.zeros((8, 8, 3), np.uint8)[:, ::-1],
    ],
    ids=["float32", "4 channels", "signed", "strided pixels", "mirrored"],
)
def test_a_row_that_cannot_be_written_in_place_is_refused(row: np.ndarray) -> None:
    with pytest.raises(Exception, match=r"in place|incompatible"):
        fill_row(np.ones((8, 8, 3), np.uint8), row, Geometry(1, 1, 0, 0))


@pytest.mark.parametrize("size", [(1, 1), (1023, 17), (1, 4000), (2160, 3840)])
def test_any_size_of_picture_can_be_written(size: tuple[int, int]) -> None:
    row = np.zeros((64, 64, 3), np.uint8)
    fill_row(np.full((*size, 3), 9, np.uint8), row, letterbox_geometry(size, (64, 64)))
    assert 0 < row.max() <= 9

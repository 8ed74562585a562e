"""Blurring: irreversible, everywhere it must be, nowhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.sink.blur import CELLS, blur
from tests.sinks import detections, picture


def test_every_pixel_of_the_box_and_its_margin_is_replaced() -> None:
    before = np.zeros((200, 200, 3), np.uint8)
    before[::2] = 255
    image = before.copy()
    blur(image, detections((80, 80, 120, 120)))
    changed = (image != before).any(axis=2)
    assert changed[66:134, 66:134].all()
    changed[66:134, 66:134] = False
    assert not changed.any()


def test_only_mean_colours_are_left() -> None:
    """Pixels shuffled inside the cells give the same result: what they were can't be told."""
    image = picture(240, 240)
    cells = image.reshape(CELLS, 60, CELLS, 60, 3).transpose(0, 2, 1, 3, 4).copy()
    for cell in cells.reshape(CELLS * CELLS, 3600, 3):
        np.random.default_rng(0).shuffle(cell)
    shuffled = cells.transpose(0, 2, 1, 3, 4).reshape(240, 240, 3).copy()
    assert (shuffled != image).mean() > 0.9
    for each in (image, shuffled):
        blur(each, detections((40, 40, 200, 200)))  # with its margin, the whole picture
    assert np.array_equal(image, shuffled)


@given(
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
    width=st.floats(0, 2000),
    height=st.floats(0, 2000),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_any_box_in_any_picture(
    x: float, y: float, width: float, height: float, shape: tuple[int, int]
) -> None:
    rows, columns = np.indices(shape)
    before = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    image = before.copy()
    blur(image, detections((x, y, x + width, y + height)))
    inside = (columns + 1 > x) & (columns < x + width) & (rows + 1 > y) & (rows < y + height)
    assert min(shape) < 2 or not (image == before)[inside].all(axis=-1).any()


def test_boxes_beyond_all_numbers_cover_the_picture() -> None:
    image = picture()
    blur(image, detections((-3e38, -3e38, 3e38, 3e38)))
    assert len(np.unique(image)) < 256


@pytest.mark.parametrize("box", [(np.nan, 0, 9, 9), (0, 0, np.inf, 9)])
def test_a_box_that_is_not_finite_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="not finite"):
        blur(picture(), detections(box))


def test_no_detections_change_nothing() -> None:
    image = picture()
    blur(image, detections())
    assert np.array_equal(image, picture())

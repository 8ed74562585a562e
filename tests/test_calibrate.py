"""How detections before and after are compared."""

import numpy as np
import pytest

from centernetd.commands.calibrate import agreement
from centernetd.flow import Detections


def found(*rows: tuple[float, ...]) -> Detections:
    """Rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def test_the_same_is_found_again() -> None:
    frame = found((0, 0, 9, 9, 0.9, 0), (5, 5, 20, 20, 0.5, 1))
    same = agreement([(frame, frame), (found(), found())])
    assert (same.expected, same.matched, same.extra, same.most_drift) == (2, 2, 0, 0)
    assert str(same).startswith("2 of 2 detections (100.0%) found again with IoU >= 0.5, 0 extra")


def test_what_is_lost_moved_renamed_or_new() -> None:
    before = found((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 0), (80, 80, 90, 90, 0.7, 1))
    after = found((0, 1, 10, 11, 0.6, 0), (56, 50, 66, 60, 0.8, 0), (80, 80, 90, 90, 0.7, 2))
    compared = agreement([(before, after)])
    assert (compared.expected, compared.matched, compared.extra) == (3, 1, 2)
    assert compared.drift == compared.most_drift == pytest.approx(0.3)


def test_one_box_is_not_found_twice() -> None:
    before = found((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 11, 0.8, 0))
    compared = agreement([(before, found((0, 0, 10, 10, 0.9, 0)))])
    assert (compared.matched, compared.extra) == (1, 0)


def test_nothing_at_all() -> None:
    compared = agreement([(found(), found((0, 0, 5, 5, 0.5, 0)))])
    assert str(compared).startswith(
        "nothing could be compared: float32 detects nothing in the video, and "
    )

"""Which box continues which track, for all streams of a batch together.

Boxes are centre, width and height, in pixels. A pair is a track and a box of the same stream, and
pairs are two arrays of row numbers [P]. So one call of each function serves all streams, however
many boxes each has.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]

_GROWN = 1.2  # of a buffered side to the side itself
_APART = 2.0**24  # pixels from one stream's picture to the next: wider than any


def pairs(
    tracks: Floats, error: Floats, of_track: Rows, boxes: Floats, of_box: Rows
) -> tuple[Rows, Rows]:
    """Return the pairs of a track [4, N] and a box [4, M] that may be similar, by their x alone.

    ``error`` [2, N] is as in `similarity`, ``of_track`` [N] and ``of_box`` [M] are their streams.
    """
    if not len(of_box):
        return of_box, of_box
    # The pictures of all streams side by side, so that boxes of one are near one another
    x, box_x = tracks[0] + of_track * _APART, boxes[0] + of_box * _APART
    reach = (tracks[2] + boxes[2].max()) * (_GROWN / 2) + error[0]
    order = box_x.argsort(kind="stable")
    first = box_x.searchsorted(x - reach, "left", order)
    count = box_x.searchsorted(x + reach, "right", order) - first
    track = np.arange(len(count)).repeat(count)
    skipped = first + count - count.cumsum()
    return track, order[np.arange(len(track)) + skipped[track]]


def similarity(tracks: Floats, error: Floats, boxes: Floats) -> Floats:
    """Return how alike boxes [4, P] are: 0 to 1 [P].

    The intersection over union of both boxes, times the ratio of their heights. Both boxes are
    grown before (C-BIoU, Yang et al., 2023, arXiv:2211.14317): by a share of their sides, and by
    the standard ``error`` [2, P] of the track's centre, so that the less is known of a track, the
    farther it may be from its prediction. Heights count (as in Hybrid-SORT, Yang et al., 2024,
    arXiv:2308.00783) because neighbours in a picture often differ in distance and so in height.
    """
    grown, box_grown = tracks[2:] * _GROWN + error, boxes[2:] * _GROWN + error
    reach = (grown + box_grown) / 2 - np.abs(tracks[:2] - boxes[:2])
    shared = np.maximum(np.minimum(reach, np.minimum(grown, box_grown)), 0.0)
    overlap = shared[0] * shared[1]
    union = grown[0] * grown[1] + box_grown[0] * box_grown[1] - overlap
    height, box_height = tracks[3], boxes[3]
    ratio = np.minimum(height, box_height) / np.maximum(height, box_height)
    alike: Floats = overlap / union * ratio
    return alike


def match(preference: Floats, track: Rows, box: Rows, count: int) -> list[int]:
    """Return the track of each of ``count`` boxes, -1 for none.

    The most preferred pair is taken first, then the most preferred of what is left, and so on;
    equals are taken in the order of the pairs.
    """
    order = (-preference).argsort(kind="stable")
    owner = [-1] * count
    taken: set[int] = set()
    for one, other in zip(track[order].tolist(), box[order].tolist(), strict=True):
        if owner[other] < 0 and one not in taken:
            owner[other] = one
            taken.add(one)
    return owner

"""Which detection continues which track, for all streams of a batch together.

Pairs of a track and a detection are two arrays of row numbers [P]. Only pairs of the same stream
are listed, so one call of each function serves all streams, however many boxes each has.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


def pairs(tracks: Rows, detections: Rows) -> tuple[Rows, Rows]:
    """Return every pair of a track and a detection in the same stream.

    ``tracks`` and ``detections`` [S] count the rows of each stream, which follow one another.
    """
    partners = np.repeat(detections, tracks)
    track = np.repeat(np.arange(len(partners)), partners)
    skipped = np.cumsum(detections) - detections  # detections of the streams before
    start = np.cumsum(partners) - partners - np.repeat(skipped, tracks)
    return track, np.arange(len(track)) - np.repeat(start, partners)


def similarity(one: Floats, other: Floats, buffer: float) -> Floats:
    """Return how alike boxes [4, P] (centre, width, height) are: 0 to 1 [P].

    The intersection over union of both boxes, each grown by the share ``buffer`` of its sides
    (C-BIoU, Yang et al., 2023, arXiv:2211.14317), times the ratio of their heights, because
    neighbours in a picture often differ in distance and so in height (Hybrid-SORT, Yang et al.,
    2024, arXiv:2308.00783, compares heights too).
    """
    sides, other_sides = np.maximum(one[2:], 1.0), np.maximum(other[2:], 1.0)
    smaller, larger = np.minimum(sides, other_sides), np.maximum(sides, other_sides)
    grown = 1.0 + buffer
    reach = (sides + other_sides) * (grown / 2) - np.abs(one[:2] - other[:2])
    shared = np.maximum(np.minimum(reach, smaller * grown), 0.0)
    overlap = shared[0] * shared[1]
    areas = (sides[0] * sides[1] + other_sides[0] * other_sides[1]) * grown**2
    ratio: Floats = overlap / (areas - overlap) * (smaller[1] / larger[1])
    return ratio


def match(preference: Floats, track: Rows, detection: Rows) -> tuple[list[int], list[int]]:
    """Return the tracks and detections that belong together.

    The most preferred pair is taken first, then the most preferred of what is left, and so on;
    equals are taken in the order of the pairs.
    """
    order = np.argsort(-preference, kind="stable")
    found: dict[int, int] = {}
    tracks: set[int] = set()
    for one, other in zip(track[order].tolist(), detection[order].tolist(), strict=True):
        if one not in tracks and other not in found:
            found[other] = one
            tracks.add(one)
    return list(found.values()), list(found)

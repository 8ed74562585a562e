"""Which detection continues which track, for the streams of a batch together.

Pairs of a track and a detection are listed as two arrays of row numbers, and only pairs of the same
stream are listed. So one call of each function serves all streams, however many boxes each has.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


def pairs(tracks: Rows, detections: Rows) -> tuple[Rows, Rows]:
    """Return every pair of a track and a detection in the same stream.

    ``tracks`` and ``detections`` [S] count the rows of each stream, which follow one another.
    """
    width = np.repeat(detections, tracks)  # of each track: the detections it is paired with
    first = np.repeat(np.cumsum(detections) - detections, tracks)
    track = np.repeat(np.arange(len(width)), width)
    start = np.cumsum(width) - width
    return track, np.arange(len(track)) + np.repeat(first - start, width)


def buffered_iou(one: Floats, other: Floats, buffer: Floats) -> Floats:
    """Return the intersection over union [P] of boxes [4, P] that both grew by ``buffer``.

    Boxes are centre, width and height. Each is widened and heightened by its own side times
    ``buffer`` [P], half of it at either edge: C-BIoU (Yang et al., 2023, arXiv:2211.14317).
    """
    grown = 1 + buffer
    sides, other_sides = np.maximum(one[2:], 1.0) * grown, np.maximum(other[2:], 1.0) * grown
    reach = (sides + other_sides) / 2 - np.abs(one[:2] - other[:2])
    shared = np.maximum(np.minimum(reach, np.minimum(sides, other_sides)), 0)
    overlap: Floats = shared[0] * shared[1]
    ratio: Floats = overlap / (sides[0] * sides[1] + other_sides[0] * other_sides[1] - overlap)
    return ratio


def match(similarity: Floats, track: Rows, detection: Rows) -> Rows:
    """Return the pairs [K] chosen greedily: the most similar first, each row once.

    Equals taking pairs in order of similarity, but takes all pairs at once that are the best of
    both their rows (locally dominant: Preis, 1999). Equal similarities go by the order of pairs.
    """
    order = np.argsort(-similarity, kind="stable")
    chosen = []
    while len(order):
        ranks = np.arange(len(order))[::-1]
        tracks, detections = track[order], detection[order]
        best = _first(tracks, ranks) & _first(detections, ranks)
        taken = order[best]
        chosen.append(taken)
        free_track = np.ones(tracks.max() + 1, bool)
        free_detection = np.ones(detections.max() + 1, bool)
        free_track[track[taken]] = free_detection[detection[taken]] = False
        order = order[free_track[tracks] & free_detection[detections]]
    return np.concatenate(chosen) if chosen else order


def _first(rows: Rows, ranks: Rows) -> NDArray[np.bool_]:
    """Return which of ``rows`` come first among their equals; ``ranks`` count down to 0."""
    first = np.empty(rows.max() + 1, np.intp)
    first[rows[::-1]] = ranks  # where rows repeat, the last assignment remains
    leads: NDArray[np.bool_] = first[rows] == ranks[::-1]
    return leads

"""How well the detections of two models agree on the same frames."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections

IOU = 0.5  # two boxes of one class that overlap by this much are the same object


@dataclass(frozen=True)
class Agreement:
    """``matched`` of the ``expected`` detections were found again, plus ``extra`` others.

    ``drift`` and ``most_drift`` are the mean and maximum difference between the scores of matched
    detections.
    """

    expected: int
    matched: int
    extra: int
    drift: float
    most_drift: float

    def __str__(self) -> str:
        if not self.expected:
            return (
                "nothing could be compared, for float32 finds nothing there and int8 "
                f"{self.extra}: take a video with what the model is to find"
            )
        return (
            f"{self.matched} of {self.expected} detections "
            f"({self.matched / self.expected:.1%}) found again with IoU >= {IOU}, "
            f"{self.extra} besides; scores differ by {self.drift:.3f} on average, "
            f"{self.most_drift:.3f} at most"
        )


def agreement(frames: Iterable[tuple[Detections, Detections]]) -> Agreement:
    """Compare pairs of expected and found detections of each frame, each sorted best first.

    A detection is matched with the unmatched one of its class that has the highest IoU.
    """
    expected = found = 0
    drifts: list[float] = []
    for wanted, given in frames:
        expected, found = expected + len(wanted), found + len(given)
        pairs = _matches(wanted, given)
        drifts += [abs(float(wanted.confidence[a] - given.confidence[b])) for a, b in pairs]
    return Agreement(
        expected,
        len(drifts),
        found - len(drifts),
        float(np.mean(drifts or [0.0])),
        max(drifts, default=0.0),
    )


def _matches(wanted: Detections, given: Detections) -> list[tuple[int, int]]:
    pairs = []
    overlaps = _overlaps(wanted, given)
    for index, row in enumerate(overlaps):
        if row.max(initial=0.0) >= IOU:
            best = int(row.argmax())
            overlaps[:, best] = 0
            pairs.append((index, best))
    return pairs


def _overlaps(first: Detections, second: Detections) -> NDArray[np.float64]:
    """Return the IoU of every pair [N, M]; 0 for different classes."""
    one, other = (found.xyxy.astype(np.float64) for found in (first, second))
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    same = first.class_id[:, None] == second.class_id[None]
    return np.where(same, shared / (areas[0][:, None] + areas[1][None] - shared), 0.0)

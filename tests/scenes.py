"""Scenes of walkers whose ways are known: their boxes at any time, and what they must count as."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections
from centernetd.track import Track, Tracked

SIZE = (480, 640)  # height, width
Point = tuple[float, float]


@dataclass(frozen=True)
class Walker:
    """Somebody who goes from point to point (shares of the picture), and waits at each.

    Points are where the feet are. ``legs`` are seconds to reach the next point, ``waits`` seconds
    spent at each; ``tremble`` is the amplitude of jitter, in box sizes, while waiting.
    """

    points: Sequence[Point]
    legs: Sequence[float]
    waits: Sequence[float]
    size: Point = (0.06, 0.2)
    begins: float = 0.0
    class_id: int = 0
    tremble: float = 0.0

    @property
    def ends(self) -> float:
        return self.begins + sum(self.legs) + sum(self.waits)

    def slowed(self, speed: float, begins: float) -> "Walker":
        """Return a walker who goes at most so many box sizes per second, and begins later."""
        legs = [
            max(leg, math.hypot((x2 - x1) / self.size[0], (y2 - y1) / self.size[1]) / speed)
            for leg, ((x1, y1), (x2, y2)) in zip(self.legs, pairwise(self.points), strict=True)
        ]
        return replace(self, legs=legs, begins=begins)

    def walks(self, time: float) -> bool:
        """Return whether he is on the way from one point to the next."""
        at = time - self.begins
        for wait, leg in zip(self.waits, self.legs, strict=False):
            if wait < at < wait + leg:
                return True
            at -= wait + leg
        return False

    def feet(self, time: float) -> Point | None:
        """Return the position at a time; None before and after."""
        at = time - self.begins
        if at < 0 or time > self.ends:
            return None
        for number, point in enumerate(self.points):
            if at <= self.waits[number]:
                shake = self.tremble * math.sin(37.0 * time)
                return point[0] + shake * self.size[0], point[1] + shake * self.size[1]
            at -= self.waits[number]
            if number < len(self.legs) and at <= self.legs[number]:
                share, after = at / self.legs[number], self.points[number + 1]
                return tuple(a + share * (b - a) for a, b in zip(point, after, strict=True))  # type: ignore[return-value]
            at -= self.legs[number] if number < len(self.legs) else 0
        return self.points[-1]

    def box(self, time: float) -> tuple[float, ...] | None:
        """Return x1, y1, x2, y2 in pixels at a time."""
        feet, (height, width) = self.feet(time), SIZE
        if feet is None:
            return None
        x, y = feet
        w, h = self.size
        return (x - w / 2) * width, (y - h) * height, (x + w / 2) * width, y * height


def times(ends: float, fps: float) -> Iterator[float]:
    """Yield the times of frames until ``ends``."""
    return (number / fps for number in range(math.floor(ends * fps) + 2))


def found(walkers: Sequence[Walker], time: float, hidden: Sequence[int] = ()) -> Detections:
    """Return perfect detections; `tracker_id` is the walker's number, from 1."""
    rows = [
        (*box, walker.class_id, number)
        for number, walker in enumerate(walkers, 1)
        if number not in hidden and (box := walker.box(time)) is not None
    ]
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        np.full(len(table), 0.9, np.float32),
        table[:, 4].astype(np.int64),
        tracker_id=table[:, 5].astype(np.int64),
    )


@dataclass
class PerfectTracker:
    """Tracks walkers by their numbers, and confirms and ends them as `Tracker` does."""

    confirm_after: float = 0.3
    max_gap: float = 2.0
    live: dict[int, Track] = field(default_factory=dict)
    confirmed: set[int] = field(default_factory=set)

    def update(self, time: float, detections: Detections) -> Tracked:
        ended = self.expire(time)
        assert detections.tracker_id is not None
        ids, started = detections.tracker_id.tolist(), []
        for number, class_id in zip(ids, detections.class_id.tolist(), strict=True):
            first = self.live[number].first if number in self.live else time
            track = self.live[number] = Track(number, class_id, 0.9, first, time)
            if number not in self.confirmed and time - first >= self.confirm_after and time > first:
                self.confirmed.add(number)
                started.append(track)
        confirmed: NDArray[np.bool_] = np.isin(detections.tracker_id, [*self.confirmed])
        nobody = np.zeros(len(ids), bool)
        shown = detections, detections.tracker_id, nobody, confirmed, detections.xyxy
        return Tracked(*shown, tuple(started), ended)

    def expire(self, now: float) -> tuple[Track, ...]:
        over = [number for number, t in self.live.items() if now - t.last > self.max_gap]
        ended = [(number, self.live.pop(number)) for number in over]
        confirmed = tuple(track for number, track in ended if number in self.confirmed)
        self.confirmed.difference_update(over)
        return confirmed

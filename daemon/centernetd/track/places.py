"""Zones and lines: on which side of each an object is, and when it has changed sides.

Positions are shares of the picture's width and height, and distances are in sizes of the object's
box, so resolution and aspect ratio do not matter. A *depth* is such a distance from the edge of a
place: positive inside a zone and to the right of a line (looking along it, y pointing down),
negative on the other side.

Boxes jitter. So a change of side counts once the object is `BAND` beyond the edge, or has been
beyond it for some time, and in between proportionally.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from centernetd.config import LineConfig, ZoneConfig

BAND = 0.2
"""Box sizes beyond an edge at which an object has certainly passed it."""

Points = NDArray[np.float64]
Depths = NDArray[np.float64]


class Step(NamedTuple):
    """An object's way between the frames that show it: positions, the size of its box, seconds."""

    start: tuple[float, float]
    end: tuple[float, float]
    size: tuple[float, float]
    seconds: float

    @property
    def vector(self) -> tuple[float, float]:
        """The distance in x and in y."""
        return self.end[0] - self.start[0], self.end[1] - self.start[1]

    @property
    def length(self) -> float:
        """The length in box sizes."""
        return math.hypot(self.vector[0] / self.size[0], self.vector[1] / self.size[1])

    def at(self, share: float) -> tuple[float, float]:
        """Return the position after a share of the way."""
        x, y = self.vector
        return self.start[0] + share * x, self.start[1] + share * y


class Line:
    """A line from one point to another."""

    def __init__(self, name: str, config: LineConfig) -> None:
        self.name = name
        self.config = config
        self._start = np.array(config.start, float)
        self._vector = np.array(config.to, float) - self._start

    def depths(self, points: Points, sizes: Points) -> Depths:
        """Return the depth of each of ``points`` [N, 2] of boxes of ``sizes`` [N, 2]."""
        dx, dy = self._vector
        x, y = (points - self._start).T
        width, height = sizes.T
        distance: Depths = (dx * y - dy * x) / np.hypot(dx * height, dy * width)
        return distance

    def is_met(self, step: Step) -> bool:
        """Return whether a step from one side to the other leads across the line, not past it."""
        _, along = _meeting(step, self._start, self._vector)
        return 0 <= along <= 1


class Zone:
    """A polygon. Its sides on the picture's border are no edges: nobody can be seen to cross."""

    def __init__(self, name: str, config: ZoneConfig) -> None:
        self.name = name
        self.config = config
        self._corners = np.array(config.polygon, float)
        self._sides = np.roll(self._corners, -1, axis=0) - self._corners
        on_border = (self._sides == 0) & ((self._corners == 0) | (self._corners == 1))
        self._edges = ~on_border.any(axis=1)

    def depths(self, points: Points, sizes: Points) -> Depths:
        """Return the depth of each of ``points`` [N, 2] of boxes of ``sizes`` [N, 2]."""
        start = (self._corners[self._edges] - points[:, None]) / sizes[:, None]
        side = self._sides[self._edges] / sizes[:, None]
        along = np.clip(-(start * side).sum(axis=2) / np.square(side).sum(axis=2), 0, 1)
        nearest = start + along[:, :, None] * side
        distance = np.hypot(nearest[..., 0], nearest[..., 1]).min(axis=1, initial=math.inf)
        depths: Depths = np.where(self._contains(points), distance, -distance)
        return depths

    def passage(self, step: Step) -> tuple[float, float] | None:
        """Return from where to where a step leads clearly through the zone, as shares; or None."""
        meetings = sorted({0.0, *self._meetings(step), 1.0})
        for begin, end in itertools.pairwise(meetings):
            middle = np.array([step.at((begin + end) / 2)])
            if self.depths(middle, np.array([step.size]))[0] >= BAND:
                return begin, end
        return None

    def _contains(self, points: Points) -> NDArray[np.bool_]:
        """Count the sides to the right of each point: around a point inside, their number is odd.

        See W. R. Franklin, PNPOLY (1970).
        """
        x, y = points.T[:, :, None]
        (left, top), (width, height) = self._corners.T, self._sides.T
        spanning = (top > y) != (top + height > y)
        slope = np.divide(width, height, out=np.zeros_like(width), where=height != 0)
        odd: NDArray[np.bool_] = (spanning & (x < left + (y - top) * slope)).sum(axis=1) % 2 == 1
        return odd

    def _meetings(self, step: Step) -> Iterator[float]:
        for corner, side in zip(self._corners, self._sides, strict=True):
            share, along = _meeting(step, corner, side)
            if 0 <= along <= 1 and 0 < share < 1:
                yield share


@dataclass(slots=True)
class Side:
    """On which side of a place a track is: 1 inside or right, -1 outside or left.

    ``settled`` is the side that counts, 0 while unknown. ``present`` is the side in the last frame,
    0 if the detected and the smoothed position differ, and ``since`` when it was first seen there.
    """

    settled: int = 0
    present: int = 0
    since: float = 0.0

    def see(self, depths: tuple[float, float], now: float, patience: float) -> bool:
        """Take the detected and the smoothed depth; return whether the track has changed sides.

        After ``patience`` seconds on the other side, any depth will do.
        """
        inside = [depth >= 0 for depth in depths]
        present = 0 if inside[0] != inside[1] else 1 if inside[0] else -1
        if present != self.present:
            self.present, self.since = present, now
        waited = now - self.since
        needed = BAND * (1 - waited / patience) if waited < patience else 0.0
        if present in (0, self.settled) or min(map(abs, depths)) < needed:
            return False
        self.settled = present
        return True


def _meeting(step: Step, start: Points, vector: Points) -> tuple[float, float]:
    """Return how far along the step, and along the other line, the two meet; nan if parallel."""
    (x, y), (dx, dy) = step.vector, vector.tolist()
    gap_x, gap_y = start[0] - step.start[0], start[1] - step.start[1]
    area = x * dy - y * dx
    if area == 0:
        return math.nan, math.nan
    return (gap_x * dy - gap_y * dx) / area, (gap_x * y - gap_y * x) / area

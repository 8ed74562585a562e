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

from centernetd.config import LineConfig, ZoneConfig

BAND = 0.2
"""Box sizes beyond an edge at which an object has certainly passed it."""

Point = tuple[float, float]
"""x and y, or width and height, as shares of the picture's."""


class Step(NamedTuple):
    """An object's way between the frames that show it: positions, the size of its box, seconds."""

    start: Point
    end: Point
    size: Point
    seconds: float

    @property
    def vector(self) -> Point:
        """The distance in x and in y."""
        return self.end[0] - self.start[0], self.end[1] - self.start[1]

    @property
    def length(self) -> float:
        """The length in box sizes."""
        x, y = self.vector
        return math.hypot(x / self.size[0], y / self.size[1])

    def at(self, share: float) -> Point:
        """Return the position after a share of the way."""
        x, y = self.vector
        return self.start[0] + share * x, self.start[1] + share * y


class Line:
    """A line from one point to another."""

    def __init__(self, name: str, config: LineConfig) -> None:
        self.name = name
        self.config = config
        self._start = config.start
        self._vector = config.to[0] - config.start[0], config.to[1] - config.start[1]

    def depth(self, point: Point, size: Point) -> float:
        """Return the depth of a point of a box of this size."""
        dx, dy = self._vector
        across = dx * (point[1] - self._start[1]) - dy * (point[0] - self._start[0])
        return across / math.hypot(dx * size[1], dy * size[0])

    def is_met(self, step: Step) -> bool:
        """Return whether a step from one side to the other leads across the line, not past it."""
        _, along = _meeting(step, self._start, self._vector)
        return 0 <= along <= 1


class Zone:
    """A polygon. Its sides on the picture's border are no edges: nobody can be seen to cross."""

    def __init__(self, name: str, config: ZoneConfig) -> None:
        self.name = name
        self.config = config
        corners = config.polygon
        self._sides = [
            (one, (two[0] - one[0], two[1] - one[1]))
            for one, two in itertools.pairwise((*corners, corners[0]))
        ]
        self._edges = [side for side in self._sides if not _on_border(*side)]

    def depth(self, point: Point, size: Point) -> float:
        """Return the depth of a point of a box of this size; infinite in a zone without edges."""
        (at_x, at_y), (width, height) = point, size
        nearest = math.inf  # the square of the distance
        for (left, top), (side_x, side_y) in self._edges:
            x, y = (left - at_x) / width, (top - at_y) / height
            dx, dy = side_x / width, side_y / height
            along = -(x * dx + y * dy) / (dx * dx + dy * dy)
            along = 0.0 if along < 0 else min(along, 1.0)
            x, y = x + along * dx, y + along * dy
            nearest = min(nearest, x * x + y * y)
        return math.sqrt(nearest) if self._contains(point) else -math.sqrt(nearest)

    def passage(self, step: Step) -> tuple[float, float] | None:
        """Return from where to where a step leads clearly through the zone, as shares; or None."""
        meetings = sorted({0.0, *self._meetings(step), 1.0})
        for begin, end in itertools.pairwise(meetings):
            if self.depth(step.at((begin + end) / 2), step.size) >= BAND:
                return begin, end
        return None

    def _contains(self, point: Point) -> bool:
        """Count the sides to the right of a point: if it is inside, their number is odd.

        See W. R. Franklin, PNPOLY (1970).
        """
        x, y = point
        odd = False
        for (left, top), (width, height) in self._sides:
            if (top > y) != (top + height > y) and x < left + (y - top) * width / height:
                odd = not odd
        return odd

    def _meetings(self, step: Step) -> Iterator[float]:
        for corner, side in self._sides:
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


def _on_border(corner: Point, side: Point) -> bool:
    return any(at in (0, 1) and not way for at, way in zip(corner, side, strict=True))


def _meeting(step: Step, start: Point, vector: Point) -> tuple[float, float]:
    """Return how far along the step, and along the other line, the two meet; nan if parallel."""
    (x, y), (dx, dy) = step.vector, vector
    gap_x, gap_y = start[0] - step.start[0], start[1] - step.start[1]
    area = x * dy - y * dx
    if area == 0:
        return math.nan, math.nan
    return (gap_x * dy - gap_y * dx) / area, (gap_x * y - gap_y * x) / area

"""How much of a picture polygons cover."""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from centernetd.config.values import Point

NOTHING = 1e-6
"""A share of the picture that is not seen: an area is rounded by less."""
_LINES = 2160  # as many as 4K has


def area(polygons: Collection[Sequence[Point]]) -> float:
    """Return the share of the picture inside any of ``polygons``, measured line by line."""
    lines = ((line + 0.5) / _LINES for line in range(_LINES))
    inside = (_length(span for each in polygons for span in _spans(each, y)) for y in lines)
    return sum(inside) / _LINES


def _spans(polygon: Sequence[Point], y: float) -> Iterable[tuple[float, float]]:
    """Return the parts of the line at ``y`` in a polygon, from left to right."""
    crossings = sorted(
        x1 + (y - y1) * (x2 - x1) / (y2 - y1)
        for (x1, y1), (x2, y2) in pairwise((*polygon, polygon[0]))
        if (y1 <= y) != (y2 <= y)
    )
    return zip(crossings[::2], crossings[1::2], strict=True)


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of ``spans``."""
    total = reached = 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total

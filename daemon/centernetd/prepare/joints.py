"""The graph that finds a detection's joints: regressed, then moved to the nearest peaks."""

from dataclasses import dataclass

from centernetd.prepare.cells import Grid, at
from centernetd.prepare.graph import Value
from centernetd.prepare.layouts import JointMaps

# From `multi_pose_decode` in xingyizhou/CenterNet.
THRESHOLD = 0.1  # peaks that score no more are ignored
REACH = 0.3  # peaks farther away, as a share of the box's longer side, are ignored
_FAR = -10000.0  # position of ignored peaks, in cells

Point = tuple[Value, Value]


@dataclass(frozen=True)
class Joints:
    """J joints of K detections, in cells; each field is [batch, J, K]."""

    x: Value
    y: Value
    score: Value

    @classmethod
    def regressed(cls, landmarks: Value, corner: Point, count: int) -> "Joints":
        """Read landmarks [batch, 2J, K] relative to a corner [batch, 1, K]; their score is 1."""
        x, y = (
            landmarks.pick(list(range(axis, 2 * count, 2)), axis=1) + corner[axis]
            for axis in (0, 1)
        )
        return cls(x, y, x * 0.0 + 1.0)

    def rows(self, stride: float) -> Value:
        """Return [batch, K, J, 3] in pixels."""
        last = self.x.graph.constant([3])
        columns = [
            column.then("Unsqueeze", last)
            for column in (self.x * stride, self.y * stride, self.score)
        ]
        return self.x.graph.concat(*columns, axis=3).transpose(0, 2, 1, 3)

    def moved(self, maps: JointMaps, low: Point, high: Point, grid: Grid, count: int) -> "Joints":
        """Move each joint to the nearest peak of its kind, if one qualifies.

        The peak must score more than `THRESHOLD`, be in the box from ``low`` to ``high``
        [batch, 1, K], and within `REACH`. A joint that isn't moved gets score 0.
        """
        peak = _peaks(maps, grid, count)
        across, down = (_pairs(mine, peaks) for mine, peaks in ((self.x, peak.x), (self.y, peak.y)))
        apart = (across * across + down * down).then("Sqrt")
        one = apart.graph.constant([1])
        distance, nearest = (
            value.reshape(0, count, grid.count)
            for value in apart.graph.node("TopK", apart, one, outputs=2, axis=-1, largest=0)
        )
        x, y, score = (part.gather(nearest, axis=2) for part in (peak.x, peak.y, peak.score))
        width, height = (end - start for start, end in zip(low, high, strict=True))
        own = score.then("Greater", score.graph.constant(THRESHOLD))
        for value, most in (
            (low[0], x), (x, high[0]), (low[1], y), (y, high[1]),
            (distance, width.then("Max", height) * REACH),
        ):  # fmt: skip
            own = own.then("And", value.then("LessOrEqual", most))
        nothing = score.graph.constant(0.0)
        return Joints(
            own.then("Where", x, self.x),
            own.then("Where", y, self.y),
            own.then("Where", score, nothing),
        )


def _peaks(maps: JointMaps, grid: Grid, count: int) -> Joints:
    """Return the best peaks per kind of joint; K is the number of peaks."""
    score, cell = grid.best_of_each(maps.scores, count)
    x, y = grid.place(cell)
    if maps.offset is None:
        x, y = x + 0.5, y + 0.5
    else:
        offset = at(maps.offset, cell.reshape(0, 1, count * grid.count), 2)
        x, y = (
            value + offset.part(axis, axis + 1, axis=1).reshape(0, count, grid.count)
            for axis, value in enumerate((x, y))
        )
    found = score.then("Greater", score.graph.constant(THRESHOLD))
    far = score.graph.constant(_FAR)
    return Joints(found.then("Where", x, far), found.then("Where", y, far), score)


def _pairs(mine: Value, peaks: Value) -> Value:
    """Subtract every peak [batch, J, P] from every joint [batch, J, K]: [batch, J, K, P]."""
    columns, rows = (mine.graph.constant([axis]) for axis in (3, 2))
    return mine.then("Unsqueeze", columns) - peaks.then("Unsqueeze", rows)

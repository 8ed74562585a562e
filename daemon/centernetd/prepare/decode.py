"""The graph around a network: normalization before it, and the decode after it.

The decode is CenterNet's ("Objects as Points", Zhou et al., 2019, section 4; `ctdet_decode` and
`multi_pose_decode` of xingyizhou/CenterNet): peaks of 3x3 neighbourhoods, the best K per class,
then the best K overall. All operators are supported by TensorRT, and the batch stays dynamic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper

from centernetd.model import contract
from centernetd.model.manifest import Manifest
from centernetd.prepare.graph import Graph, Value, prune
from centernetd.prepare.layouts import (
    AnyLayout,
    BoxLayout,
    Heads,
    HeatmapLayout,
    JointMaps,
    Maps,
    Network,
    Regression,
)

# From `multi_pose_decode` in xingyizhou/CenterNet.
THRESHOLD = 0.1  # peaks that score no more are ignored
REACH = 0.3  # peaks farther away, as a share of the box's longer side, are ignored
_FAR = -10000.0  # position of ignored peaks, in cells

Point = tuple[Value, Value]


@dataclass(frozen=True)
class Grid:
    """Cells numbered row by row, of which the best `count` are used."""

    rows: int
    columns: int
    count: int

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.rows * self.columns

    def coordinates(self, cell: Value) -> tuple[Value, Value]:
        """Return column and row of each cell, as float32."""
        row = cell / self.columns
        column = cell - row * self.columns
        return column.cast(TensorProto.FLOAT), row.cast(TensorProto.FLOAT)

    def top_peaks(self, scores: Value, channels: int) -> tuple[Value, Value]:
        """Return scores and cells of each channel's best peaks, [batch, channels, count]."""
        return _suppress(scores).reshape(0, channels, self.cells).top(self.count)


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
        distances = (across * across + down * down).then("Sqrt")
        one = distances.graph.constant([1])
        distance, nearest = (
            value.reshape(0, count, grid.count)
            for value in distances.graph.node("TopK", distances, one, outputs=2, axis=-1, largest=0)
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


def wrap(network: Network, layout: AnyLayout, heads: Heads, manifest: Manifest) -> None:
    """Make the model of `network`, in place, take ``frames`` and return ``detections``."""
    model = network.model
    before, behind = Graph("preprocess"), Graph("decode")
    normalize(before.tensor(contract.INPUT), manifest).named(model.graph.input[0].name)

    count = min(manifest.top_k, layout.candidates(network, heads))
    if isinstance(layout, BoxLayout):
        results = {contract.DETECTIONS: layout.boxes(network, heads, count, behind)}
    else:
        maps, grid = layout.maps(network, heads, behind), Grid(*network.grid, count)
        stride = float(network.declared.stride)
        results = decode(maps, layout, len(manifest.labels), len(manifest.joints), grid, stride)
    for name, value in results.items():
        value.named(name)
    _replace(model, [before, behind], manifest, list(results), count)


def normalize(frames: Value, manifest: Manifest) -> Value:
    """Turn uint8 [batch, H, W, 3] BGR pixels into float32 [batch, 3, H, W] network input."""
    pixels = frames.cast(TensorProto.FLOAT).transpose(0, 3, 1, 2)
    if manifest.order == "rgb":
        pixels = pixels.pick([2, 1, 0], axis=1)
    mean, std = (np.array(three).reshape(1, 3, 1, 1) for three in (manifest.mean, manifest.std))
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    if np.any(scale != 1):
        pixels = pixels * scale
    if np.any(shift != 0):
        pixels = pixels + shift
    return pixels


def decode(
    maps: Maps, layout: HeatmapLayout, classes: int, joints: int, grid: Grid, stride: float
) -> dict[str, Value]:
    """Return detections [batch, K, 6] and, if there are any, keypoints [batch, K, J, 3].

    K is ``grid.count``; a cell is ``stride`` input pixels long.
    """
    scores, class_id, cell = _best(maps.scores, classes, grid)
    found = layout.regression(_pick(maps, classes, joints, class_id, cell))

    corner = grid.coordinates(cell)
    centre = scores.graph.concat(*corner, axis=1) + found.offset
    half = found.size / 2.0
    low, high = centre - half, centre + half
    parts = [low * stride, high * stride, scores, class_id.cast(TensorProto.FLOAT)]
    results = {contract.DETECTIONS: scores.graph.concat(*parts, axis=1).transpose(0, 2, 1)}
    if found.landmarks is None:
        return results
    points = Joints.regressed(found.landmarks, corner, joints)
    if maps.joints is not None:
        points = points.moved(maps.joints, _point(low), _point(high), grid, joints)
    return {**results, contract.KEYPOINTS: points.rows(stride)}


def _best(scores: Value, classes: int, grid: Grid) -> tuple[Value, Value, Value]:
    """Return scores, classes and cells of the best peaks, each [batch, 1, K], best first."""
    scores, cell = grid.top_peaks(scores, classes)
    scores, place = scores.reshape(0, 1, classes * grid.count).top(grid.count)
    cell = cell.reshape(0, 1, classes * grid.count).gather(place, axis=2)
    return scores, place / grid.count, cell


def _pick(maps: Maps, classes: int, joints: int, class_id: Value, cell: Value) -> Regression:
    """Read size, offset and landmarks at the cells [batch, 1, K]."""
    offset = cell.graph.constant(np.full((1, 2, 1), 0.5))
    if maps.offset is not None:
        offset = at(maps.offset, cell, 2)
    landmarks = maps.landmarks and at(maps.landmarks, cell, 2 * joints)
    if not maps.size_per_class:
        return Regression(at(maps.size, cell, 2), offset, landmarks)
    every = at(maps.size, cell, 2 * classes)
    chosen = [class_id * 2 + axis for axis in (0, 1)]
    return Regression(every.gather(cell.graph.concat(*chosen, axis=1), axis=1), offset, landmarks)


def _point(both: Value) -> Point:
    """Split [batch, 2, K] into x and y."""
    return both.part(0, 1, axis=1), both.part(1, 2, axis=1)


def _peaks(maps: JointMaps, grid: Grid, count: int) -> Joints:
    """Return the best peaks per kind of joint; K is the number of peaks."""
    score, cell = grid.top_peaks(maps.scores, count)
    x, y = grid.coordinates(cell)
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


def at(maps: Value, cell: Value, channels: int) -> Value:
    """Take ``maps`` [batch, channels, cells] at ``cell`` [batch, 1, N]: [batch, channels, N]."""
    return maps.gather(cell.then("Expand", cell.graph.constant([1, channels, 1])), axis=2)


def _suppress(scores: Value) -> Value:
    """Set every score to 0 that a neighbour exceeds."""
    highest = scores.then("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return scores * scores.then("Equal", highest).cast(TensorProto.FLOAT)


def _replace(
    model: ModelProto, around: Sequence[Graph], manifest: Manifest, results: list[str], count: int
) -> None:
    """Insert the nodes of `around` before and after those of `model`; declare its new tensors."""
    before, behind = around
    graph = model.graph
    nodes = [*before.nodes, *graph.node, *behind.nodes]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *behind.constants])
    prune(graph, results)
    height, width = manifest.input_size
    shapes: dict[str, list[str | int | None]] = {
        contract.DETECTIONS: ["batch", count, 6],
        contract.KEYPOINTS: ["batch", count, len(manifest.joints), 3],
    }
    graph.input.append(
        helper.make_tensor_value_info(
            contract.INPUT, TensorProto.UINT8, ["batch", height, width, 3]
        )
    )
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in results
    )

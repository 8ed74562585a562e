"""The cells of a heatmap: finding peaks, and reading other maps at them."""

from dataclasses import dataclass

from onnx import TensorProto

from centernetd.prepare.graph import Value


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

    def place(self, cell: Value) -> tuple[Value, Value]:
        """Return column and row of each cell, as float32."""
        row = cell / self.columns
        column = cell - row * self.columns
        return column.cast(TensorProto.FLOAT), row.cast(TensorProto.FLOAT)

    def best_of_each(self, scores: Value, channels: int) -> tuple[Value, Value]:
        """Return scores and cells of each channel's best peaks, [batch, channels, count]."""
        return _suppress(scores).reshape(0, channels, self.cells).top(self.count)


def at(maps: Value, cell: Value, channels: int) -> Value:
    """Take ``maps`` [batch, channels, cells] at ``cell`` [batch, 1, N]: [batch, channels, N]."""
    return maps.gather(cell.then("Expand", cell.graph.constant([1, channels, 1])), axis=2)


def _suppress(scores: Value) -> Value:
    """Set every score to 0 that a neighbour exceeds."""
    highest = scores.then("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return scores * scores.then("Equal", highest).cast(TensorProto.FLOAT)

"""What a layout is: how one kind of CenterNet export becomes scores, sizes and offsets."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx

from daemon.model.graph import Value


@dataclass(frozen=True)
class Head:
    """One output of a network; `name` is the exporter's, `shape` is without the batch."""

    name: str
    tensor: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} [batch, {', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Network:
    """A bare network at a given input size; `grid` is (rows, columns) of its heatmap."""

    model: onnx.ModelProto
    heads: tuple[Head, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Maps:
    """What the network says of every cell, as it says it.

    `scores` is [batch, C, rows, columns] after the sigmoid; `size`, `offset` [batch, 2, cells]
    and `landmarks` [batch, 2J, cells] are in the layout's own terms.
    """

    scores: Value
    size: Value
    offset: Value
    landmarks: Value | None = None


@dataclass(frozen=True)
class Regression:
    """The same for the K best cells, all in cells.

    `size` is (w, h), `offset` is (x, y) from the cell's corner to the centre, `landmarks`
    (x, y) pairs from the cell's corner; [batch, 2, K] and [batch, 2J, K].
    """

    size: Value
    offset: Value
    landmarks: Value | None = None


class Layout(ABC):
    """One kind of export: how to know it, read it, and what its networks are usually fed."""

    STRIDE: ClassVar[int] = 4  # input pixels a cell, in every network of the family

    name: ClassVar[str]
    order: ClassVar[str] = "bgr"
    mean: ClassVar[tuple[float, float, float]] = (0.408, 0.447, 0.470)
    std: ClassVar[tuple[float, float, float]] = (0.289, 0.274, 0.278)
    resize: ClassVar[str] = "letterbox"
    confidence: ClassVar[float] = 0.3
    nms_iou: ClassVar[float | None] = None
    labels: ClassVar[tuple[str, ...]] = ()
    joints: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, network: Network) -> bool:
        """Tell whether `network` can be nothing else, so that nobody need declare it."""

    @abstractmethod
    def select(self, network: Network) -> tuple[Head, ...] | None:
        """Return the outputs that this layout reads, the scores first; None if they don't fit."""

    @abstractmethod
    def classes(self, heads: Sequence[Head]) -> int:
        """Count the classes from the selected heads."""

    @abstractmethod
    def maps(self, network: Network, outputs: Sequence[Value], classes: int) -> Maps:
        """Read the selected outputs."""

    def regression(self, picked: Regression) -> Regression:
        """Turn what was picked from the maps into cells; most layouts say it in cells."""
        return picked

"""The interface of layouts: how one kind of export becomes detections."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx

from centernetd.model import labels
from centernetd.prepare.graph import Graph, Value


@dataclass(frozen=True)
class Head:
    """One output of a network; `name` is the exporter's, `shape` excludes the batch."""

    name: str
    tensor: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} [batch, {', '.join(map(str, self.shape))}]"


Heads = Mapping[str, Head]  # by role, in the order of the layout's roles


@dataclass(frozen=True)
class Declared:
    """What the user declares about a network because its outputs don't show it.

    `stride` is the number of input pixels per cell, `scale` that of a unit of the distances in
    `ltrb`, `no_object` the column of the class logits that means no object (-1: the last),
    and `classes` the number of labels given.
    """

    stride: int = 4
    scale: float = 1.0
    no_object: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Network:
    """A bare network at a given (height, width) of its input.

    `unfit` has the reason for each output that can't be a head, and isn't named like one.
    """

    model: onnx.ModelProto
    heads: tuple[Head, ...]
    size: tuple[int, int]
    unfit: tuple[str, ...] = ()
    declared: Declared = Declared()

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a heatmap."""
        height, width = self.size
        return height // self.declared.stride, width // self.declared.stride


@dataclass(frozen=True)
class JointMaps:
    """Heatmaps of joints of any object: `scores` [batch, J, rows, columns] after the sigmoid.

    `offset` is [batch, 2, cells] as (x, y) in cells; without it, joints are at cell centres.
    """

    scores: Value
    offset: Value | None


@dataclass(frozen=True)
class Maps:
    """The network's predictions for every cell, in the layout's own units.

    `scores` is [batch, C, rows, columns] after the sigmoid; `size` [batch, 2, cells] or, with
    `size_per_class`, [batch, 2C, cells]; `offset` [batch, 2, cells]; `landmarks`
    [batch, 2J, cells]. Without an offset, centres are at cell centres. With `joints`, landmarks
    are moved to them.
    """

    scores: Value
    size: Value
    offset: Value | None
    landmarks: Value | None = None
    joints: JointMaps | None = None
    size_per_class: bool = False


@dataclass(frozen=True)
class Regression:
    """The predictions for the K best cells, in cells.

    `size` is (w, h), `offset` is (x, y) from the cell's corner to the centre, `landmarks`
    (x, y) pairs from the cell's corner; [batch, 2, K] and [batch, 2J, K].
    """

    size: Value
    offset: Value
    landmarks: Value | None = None


class Layout(ABC):
    """One kind of export: how to recognise and read it, and its networks' usual input.

    `roles` names the purposes of its outputs, those in `optional` may be missing. The layers before
    those in `precise` stay float32. `declarable` names the fields of `Declared` that it reads.
    """

    name: ClassVar[str]
    roles: ClassVar[tuple[str, ...]]
    optional: ClassVar[frozenset[str]] = frozenset()
    aliases: ClassVar[Mapping[str, str]] = {}  # other names of the outputs, and their roles
    precise: ClassVar[tuple[str, ...]]
    declarable: ClassVar[frozenset[str]] = frozenset()
    order: ClassVar[str] = "bgr"
    mean: ClassVar[tuple[float, float, float]] = (0.408, 0.447, 0.470)
    std: ClassVar[tuple[float, float, float]] = (0.289, 0.274, 0.278)
    resize: ClassVar[str] = "letterbox"
    confidence: ClassVar[float] = 0.3
    nms_iou: ClassVar[float | None] = None

    @abstractmethod
    def recognises(self, network: Network) -> bool:
        """Return whether `network` can't have any other layout, so it need not be declared."""

    @abstractmethod
    def fits(self, shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> bool:
        """Return whether heads of these shapes, given by role, fit this layout."""

    @abstractmethod
    def classes(self, network: Network, heads: Heads) -> int:
        """Return the number of classes."""

    @abstractmethod
    def candidates(self, network: Network, heads: Heads) -> int:
        """Return the number of detections in one frame before any are selected."""

    def select(self, network: Network) -> Heads | None:
        """Return the outputs that this layout reads; None if they don't fit.

        They are identified by name, or else by the order of the roles.
        """
        return self.named(network) or self._fitting(self._by_position(network), network)

    def named(self, network: Network) -> Heads | None:
        """Return the outputs that this layout reads, if their names identify them."""
        return self._fitting(self._by_name(network), network)

    def labels(self, network: Network, classes: int) -> tuple[str, ...]:
        """Return the usual names for this many classes."""
        return labels.of_classes(classes)

    def joints(self, heads: Heads) -> tuple[str, ...]:
        """Return the names of the keypoints, if any."""
        return ()

    def declaration(self, heads: Heads | None = None) -> str:
        """Return the options that declare this layout with these `heads`."""
        names = {role: head.name for role, head in (heads or {}).items()}
        options = [f"--head {role}={names.get(role, 'NAME')}" for role in self.roles]
        shown = [
            f"[{option}]" if role in self.optional and role not in names else option
            for role, option in zip(self.roles, options, strict=True)
        ]
        return " ".join([f"--layout {self.name}", *shown])

    def _fitting(self, heads: Heads, network: Network) -> Heads | None:
        shapes = {role: head.shape for role, head in heads.items()}
        return heads if heads and self.fits(shapes, network.grid) else None

    def _by_name(self, network: Network) -> Heads:
        """Match heads by name; if optional ones are missing, there must be no unknown others."""
        known = {self.aliases.get(head.name, head.name): head for head in network.heads}
        found = {role: known[role] for role in self.roles if role in known}
        missing = set(self.roles) - set(found)
        certain = missing <= self.optional and not (missing and set(known) - set(found))
        return found if certain else {}

    def _by_position(self, network: Network) -> Heads:
        """Match heads by the order of the roles, unless a name contradicts."""
        needed = tuple(role for role in self.roles if role not in self.optional)
        for roles in (self.roles, needed):
            pairs = list(zip(roles, network.heads, strict=False))
            misplaced = [
                head for role, head in pairs if head.name in self.roles and head.name != role
            ]
            if len(roles) == len(network.heads) and not misplaced:
                return dict(pairs)
        return {}


class HeatmapLayout(Layout):
    """A heatmap whose peaks are objects, and other maps that are read at the peaks."""

    declarable: ClassVar[frozenset[str]] = frozenset({"stride"})

    @abstractmethod
    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Read the selected outputs, adding nodes to `graph`."""

    def regression(self, picked: Regression) -> Regression:
        """Convert the values read from the maps to cells; in most layouts they already are."""
        return picked

    def candidates(self, network: Network, heads: Heads) -> int:
        """Return the number of cells."""
        rows, columns = network.grid
        return rows * columns


class BoxLayout(Layout):
    """Boxes instead of maps: there are no peaks to look for."""

    @abstractmethod
    def boxes(self, network: Network, heads: Heads, count: int, graph: Graph) -> Value:
        """Return the best `count` detections [batch, count, 6] of a prepared model."""

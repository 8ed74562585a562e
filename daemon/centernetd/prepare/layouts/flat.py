"""The layouts of exports with all outputs in one table, one row per cell."""

from collections.abc import Mapping

from centernetd.prepare.graph import Graph
from centernetd.prepare.layouts.base import Heads, HeatmapLayout, Maps, Network
from centernetd.prepare.layouts.heatmap import Pooling, nan_first, pooling, scores_of


class _Table(HeatmapLayout):
    """One output [batch, cells, columns]."""

    roles = ("table",)
    precise = ("table",)
    POOLING: Pooling  # how a 3x3 max-pool is used in such an export

    def recognises(self, network: Network) -> bool:
        """Recognise it by the use of the pooled scores: by columns it could be either layout."""
        heads = self.select(network)
        return (
            heads is not None
            and pooling(network.model.graph, heads["table"].tensor) is self.POOLING
        )

    def fits(self, shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> bool:
        """Check for one row per cell, and columns for at least one class."""
        shape = shapes["table"]
        return len(shape) == 2 and shape[0] == grid[0] * grid[1] and self._fits(shape[1])

    def _fits(self, width: int) -> bool:
        return width > 4


class Flat(_Table):
    """[batch, cells, C + 4]: C scores with all but the peaks at 0, then w, h, then x, y.

    Its networks usually take RGB, stretched, normalized with CenterNet's BGR mean and std as is.
    """

    name = "flat"
    POOLING = Pooling.COMPARED
    order = "rgb"
    mean = (0.40789655, 0.44719303, 0.47026116)
    std = (0.2886383, 0.27408165, 0.27809834)
    resize = "stretch"

    def classes(self, network: Network, heads: Heads) -> int:
        """Return the number of columns before the four of the box."""
        return heads["table"].shape[1] - 4

    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Split the table; the decode's second peak suppression changes nothing."""
        classes, output = self.classes(network, heads), graph.tensor(heads["table"].tensor)
        table = output.transpose(0, 2, 1)
        scores = table.part(0, classes, axis=1).reshape(0, classes, *network.grid)
        return Maps(
            nan_first(scores, scores),
            size=table.part(classes, classes + 2, axis=1),
            offset=table.part(classes + 2, classes + 4, axis=1),
        )


class FlatPool(_Table):
    """[batch, cells, 4 + 2C]: x, y, then w, h, then C logits, then the C pooled logits."""

    name = "flat_pool"
    POOLING = Pooling.OUTPUT

    def _fits(self, width: int) -> bool:
        return width > 4 and width % 2 == 0

    def classes(self, network: Network, heads: Heads) -> int:
        """Return half the number of columns after the four of the box."""
        return (heads["table"].shape[1] - 4) // 2

    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Split the table, ignoring the pooled logits, since the decode does its own pooling."""
        classes, output = self.classes(network, heads), graph.tensor(heads["table"].tensor)
        table = output.transpose(0, 2, 1)
        scores = table.part(4, 4 + classes, axis=1).reshape(0, classes, *network.grid)
        scores = scores_of(network, output, scores)
        return Maps(scores, size=table.part(2, 4, axis=1), offset=table.part(0, 2, axis=1))

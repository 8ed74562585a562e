"""The layouts of exports that put everything into one table, a row a cell."""

from collections.abc import Sequence

from daemon.model.graph import Value
from daemon.model.layouts.base import Head, Layout, Maps, Network
from daemon.model.upstream import Pooling, ends_in_sigmoid, pooling


class _Table(Layout):
    """One output [batch, cells, columns]."""

    POOLING: Pooling  # how a 3x3 max-pool shows in such an export

    def recognises(self, network: Network) -> bool:
        """Know it by where the pooled scores went: the columns alone could be either's."""
        return (
            self.select(network) is not None
            and pooling(network.model.graph, network.heads[0].tensor) is self.POOLING
        )

    def select(self, network: Network) -> tuple[Head, ...] | None:
        """Take the one output, if it has a row a cell and columns for a class or more."""
        rows, columns = network.grid
        if len(network.heads) != 1 or len(network.heads[0].shape) != 2:
            return None
        cells, width = network.heads[0].shape
        return network.heads if cells == rows * columns and self._fits(width) else None

    def _fits(self, width: int) -> bool:
        return width > 4


class Flat(_Table):
    """[batch, cells, C + 4]: C scores with all but the peaks at 0, then w, h, then x, y.

    Its networks are usually fed RGB, stretched, with CenterNet's BGR mean and std as they are.
    """

    name = "flat"
    POOLING = Pooling.COMPARED
    order = "rgb"
    mean = (0.40789655, 0.44719303, 0.47026116)
    std = (0.2886383, 0.27408165, 0.27809834)
    resize = "stretch"

    def classes(self, heads: Sequence[Head]) -> int:
        """Count the columns before the four of the box."""
        return heads[0].shape[1] - 4

    def maps(self, network: Network, outputs: Sequence[Value], classes: int) -> Maps:
        """Cut the table; suppressing its peaks once more changes nothing."""
        table = outputs[0].transpose(0, 2, 1)
        scores = table.part(0, classes, axis=1).reshape(0, classes, *network.grid)
        size = table.part(classes, classes + 2, axis=1)
        return Maps(scores, size, table.part(classes + 2, classes + 4, axis=1))


class FlatPool(_Table):
    """[batch, cells, 4 + 2C]: x, y, then w, h, then C logits, then the C pooled logits."""

    name = "flat_pool"
    POOLING = Pooling.OUTPUT

    def _fits(self, width: int) -> bool:
        return width > 4 and width % 2 == 0

    def classes(self, heads: Sequence[Head]) -> int:
        """Count half the columns behind the four of the box."""
        return (heads[0].shape[1] - 4) // 2

    def maps(self, network: Network, outputs: Sequence[Value], classes: int) -> Maps:
        """Cut the table; the pooled logits are left, for the decode pools by itself."""
        table = outputs[0].transpose(0, 2, 1)
        scores = table.part(4, 4 + classes, axis=1).reshape(0, classes, *network.grid)
        if not ends_in_sigmoid(network.model.graph, outputs[0].name):
            scores = scores.then("Sigmoid")
        return Maps(scores, size=table.part(2, 4, axis=1), offset=table.part(0, 2, axis=1))

"""The layout of CenterNet's own detection task: heatmap, size and offset as three maps."""

from collections.abc import Sequence

from daemon.model.graph import Value
from daemon.model.layouts.base import Head, Layout, Maps, Network
from daemon.model.upstream import ends_in_sigmoid


class Ctdet(Layout):
    """``hm`` [batch, C, h, w], ``wh`` and ``reg`` [batch, 2, h, w] in cells.

    The preprocessing is that of CenterNet's training code (xingyizhou/CenterNet).
    """

    name = "ctdet"
    NAMES = ("hm", "wh", "reg")

    def recognises(self, network: Network) -> bool:
        """Know it by its names: two maps of two channels alone don't tell size from offset."""
        return set(self.NAMES) <= {head.name for head in network.heads}

    def select(self, network: Network) -> tuple[Head, ...] | None:
        """Take the heads by name, or the only three outputs in the order hm, wh, reg."""
        named = {head.name: head for head in network.heads}
        heads = (
            tuple(named[name] for name in self.NAMES) if self.recognises(network) else network.heads
        )
        shapes = [head.shape for head in heads]
        fits = (
            len(shapes) == 3
            and all(len(shape) == 3 and shape[1:] == network.grid for shape in shapes)
            and [shape[0] for shape in shapes[1:]] == [2, 2]
        )
        return heads if fits else None

    def classes(self, heads: Sequence[Head]) -> int:
        """Count the channels of the heatmap."""
        return heads[0].shape[0]

    def maps(self, network: Network, outputs: Sequence[Value], classes: int) -> Maps:
        """Add the sigmoid where the export lacks it."""
        heat, size, offset = outputs
        if not ends_in_sigmoid(network.model.graph, heat.name):
            heat = heat.then("Sigmoid")
        return Maps(heat, size.reshape(0, 2, -1), offset.reshape(0, 2, -1))

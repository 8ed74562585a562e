"""The layout of networks that predict the distances from a cell to the four sides of a box."""

from collections.abc import Mapping
from typing import ClassVar

from centernetd.prepare.graph import Graph
from centernetd.prepare.layouts.base import Heads, HeatmapLayout, Maps, Network
from centernetd.prepare.layouts.heatmap import scores_of


class Ltrb(HeatmapLayout):
    """``hm`` C, and ``wh`` 4: distances from a cell's corner to left, top, right and bottom.

    The distances are in input pixels, or in units of `Declared.scale` pixels. There is no offset.
    Source: "Training-Time-Friendly Network for Real-Time Object Detection" (Liu et al., 2020),
    section 3, whose preprocessing (that of mmdetection) is the default.
    """

    name = "ltrb"
    order = "rgb"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    roles = ("hm", "wh")
    precise = ("hm",)
    declarable: ClassVar[frozenset[str]] = frozenset({"stride", "scale"})

    def recognises(self, network: Network) -> bool:
        """Recognise it by its names, unless they could be those of `ctdet` with two classes."""
        heads = self.named(network)
        return heads is not None and self.classes(network, heads) != 2

    def fits(self, shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> bool:
        """Compare sizes and channels."""
        heat, sides = shapes["hm"], shapes["wh"]
        return len(heat) == 3 and heat[1:] == grid and sides == (4, *grid)

    def classes(self, network: Network, heads: Heads) -> int:
        """Return the number of channels of the heatmap."""
        return heads["hm"].shape[0]

    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Read the outputs, adding the sigmoid if the export lacks it."""
        heat, sides = (graph.tensor(heads[role].tensor) for role in self.roles)
        cells = sides.reshape(0, 0, -1) * (network.declared.scale / network.declared.stride)
        before, after = cells.part(0, 2, axis=1), cells.part(2, 4, axis=1)
        return Maps(
            scores_of(network, heat, heat), size=before + after, offset=(after - before) / 2.0
        )

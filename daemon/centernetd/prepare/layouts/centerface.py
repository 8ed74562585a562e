"""The layout of CenterFace: one class, sizes on a log scale, five landmarks."""

from collections.abc import Mapping

from centernetd.prepare.graph import Graph
from centernetd.prepare.layouts.base import Heads, HeatmapLayout, Maps, Network, Regression
from centernetd.prepare.layouts.heatmap import scores_of


class CenterFace(HeatmapLayout):
    """Four maps: heat 1, scale 2 as (h, w), offset 2 as (y, x), landmarks 10 as (y, x) pairs.

    With s the exponential of the scale, a face is s cells large, its centre is half a cell beyond
    ``cell + offset``, and its landmarks are relative to its size and its top left corner.
    Source: "CenterFace: Joint Face Detection and Alignment Using Face as Point"
    (Xu et al., 2020), section 3, and the post-processing of its authors' demo.
    """

    name = "centerface"
    order = "rgb"
    mean = (0.0, 0.0, 0.0)
    std = (1 / 255, 1 / 255, 1 / 255)
    confidence = 0.4
    nms_iou = 0.3
    roles = ("heat", "scale", "offset", "landmarks")
    precise = ("heat",)
    JOINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    CHANNELS = (1, 2, 2, 10)

    def recognises(self, network: Network) -> bool:
        """Recognise it by its channels: nothing else has 1, 2, 2 and 10."""
        return self.select(network) is not None

    def fits(self, shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> bool:
        """Compare the channels."""
        return list(shapes.values()) == [(channels, *grid) for channels in self.CHANNELS]

    def classes(self, network: Network, heads: Heads) -> int:
        """Return one: a face."""
        return 1

    def labels(self, network: Network, classes: int) -> tuple[str, ...]:
        """Return the name of that class."""
        return ("face",)

    def joints(self, heads: Heads) -> tuple[str, ...]:
        """Return the names of the landmarks in their order."""
        return self.JOINTS

    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Read the outputs, adding the sigmoid if the export lacks it."""
        heat, *others = (graph.tensor(head.tensor) for head in heads.values())
        scale, offset, landmarks = (other.reshape(0, 0, -1) for other in others)
        return Maps(scores_of(network, heat, heat), scale, offset, landmarks)

    def regression(self, picked: Regression) -> Regression:
        """Swap (y, x) to (x, y), undo the logarithm, and make landmarks relative to the cell."""
        joints = len(self.JOINTS)
        size = picked.size.pick([1, 0], axis=1).then("Exp")
        offset = picked.offset.pick([1, 0], axis=1) + 0.5
        if picked.landmarks is None:
            return Regression(size, offset)
        swapped = [2 * joint + axis for joint in range(joints) for axis in (1, 0)]
        shares = picked.landmarks.pick(swapped, axis=1)
        # a share of 0.5 is the centre, which is at `offset`
        every_joint = [0, 1] * joints
        landmarks = (shares - 0.5) * size.pick(every_joint, axis=1) + offset.pick(
            every_joint, axis=1
        )
        return Regression(size, offset, landmarks)

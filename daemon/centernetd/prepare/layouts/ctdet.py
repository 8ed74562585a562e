"""The layouts of CenterNet's own tasks, with separate maps per quantity."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from centernetd.model import labels
from centernetd.prepare.graph import Graph, Value
from centernetd.prepare.layouts.base import Head, Heads, HeatmapLayout, JointMaps, Maps, Network
from centernetd.prepare.layouts.heatmap import scores_of

Shapes = Mapping[str, tuple[int, ...]]


class _Maps(HeatmapLayout):
    """Maps [batch, channels, h, w], all in cells: ``hm`` C, ``wh`` 2 or 2C, ``reg`` 2.

    The preprocessing is that of CenterNet's training code (xingyizhou/CenterNet), which can also
    omit ``reg`` (``--not_reg_offset``) or predict a size per class (``--cat_spec_wh``).
    """

    precise: ClassVar[tuple[str, ...]] = ("hm",)

    def fits(self, shapes: Shapes, grid: tuple[int, int]) -> bool:
        """Compare sizes and channels."""
        if any(len(shape) != 3 or shape[1:] != grid for shape in shapes.values()):
            return False
        channels = {role: shape[0] for role, shape in shapes.items()}
        return (
            channels["wh"] in (2, 2 * channels["hm"])
            and channels.get("reg", 2) == 2
            and self._joints_fit(channels)
        )

    def _joints_fit(self, channels: Mapping[str, int]) -> bool:
        return True

    def classes(self, network: Network, heads: Heads) -> int:
        """Return the number of channels of the heatmap."""
        return heads["hm"].shape[0]

    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Read the outputs, adding the sigmoid if the export lacks it."""
        heat = graph.tensor(heads["hm"].tensor)
        return Maps(
            scores_of(network, heat, heat),
            _flat(heads["wh"], graph),
            _flat(heads["reg"], graph) if "reg" in heads else None,
            size_per_class=heads["wh"].shape[0] > 2,
        )


class Ctdet(_Maps):
    """Boxes: ``hm``, ``wh`` and usually ``reg``."""

    name = "ctdet"
    roles = ("hm", "wh", "reg")
    optional = frozenset({"reg"})

    def recognises(self, network: Network) -> bool:
        """Recognise it by its names: two maps of two channels could each be size or offset.

        A size for each of two classes has the four channels of `ltrb`.
        """
        heads = self.named(network) or {}
        channels = {role: head.shape[0] for role, head in heads.items()}
        return "hps" not in {head.name for head in network.heads} and channels not in (
            {},
            {"hm": 2, "wh": 4},
        )


class MultiPose(_Maps):
    """Boxes with two joints or more: as `Ctdet`, and ``hps`` 2J, ``hm_hp`` J, ``hp_offset`` 2.

    ``hps`` are the positions of a person's joints relative to the cell of its centre; ``hm_hp`` is
    a heatmap of all persons' joints, and ``hp_offset`` refines it as ``reg`` refines ``hm``. The
    last two may be missing (``--not_hm_hp``, ``--not_reg_hp_offset``).
    """

    name = "multi_pose"
    roles = ("hm", "wh", "hps", "reg", "hm_hp", "hp_offset")
    optional = frozenset({"reg", "hm_hp", "hp_offset"})
    precise = ("hm", "hm_hp")

    def recognises(self, network: Network) -> bool:
        """Recognise it by its names."""
        return self.named(network) is not None

    def _joints_fit(self, channels: Mapping[str, int]) -> bool:
        joints, odd = divmod(channels["hps"], 2)
        return (
            not odd
            and joints > 1
            and channels.get("hm_hp", joints) == joints
            and channels.get("hp_offset", 2) == 2
        )

    def labels(self, network: Network, classes: int) -> tuple[str, ...]:
        """Return the name of the one class that has joints."""
        return ("person",) if classes == 1 else super().labels(network, classes)

    def joints(self, heads: Heads) -> tuple[str, ...]:
        """Return COCO's names, if the number of joints matches."""
        return labels.of_joints(heads["hps"].shape[0] // 2)

    def maps(self, network: Network, heads: Heads, graph: Graph) -> Maps:
        """Read the outputs, adding the sigmoids if the export lacks them."""
        boxes = super().maps(network, heads, graph)
        joints = None
        if "hm_hp" in heads:
            heat = graph.tensor(heads["hm_hp"].tensor)
            joints = JointMaps(
                scores_of(network, heat, heat),
                _flat(heads["hp_offset"], graph) if "hp_offset" in heads else None,
            )
        return replace(boxes, landmarks=_flat(heads["hps"], graph), joints=joints)


def _flat(head: Head, graph: Graph) -> Value:
    """Return a map reshaped to [batch, channels, cells]."""
    return graph.tensor(head.tensor).reshape(0, 0, -1)

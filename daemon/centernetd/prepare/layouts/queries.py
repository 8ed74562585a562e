"""The layout of detection transformers: one box and one score per class from each query."""

from collections.abc import Mapping
from typing import ClassVar

from onnx import TensorProto

from centernetd.errors import ModelError
from centernetd.prepare.graph import Graph, Value
from centernetd.prepare.layouts.base import BoxLayout, Heads, Network
from centernetd.prepare.layouts.heatmap import scores_of


class Queries(BoxLayout):
    """``logits`` [batch, Q, C] and ``boxes`` [batch, Q, 4]: cx, cy, w, h as shares of the input.

    RT-DETR, D-FINE and RF-DETR end like this, without NMS. The first two take RGB from 0 to 1,
    stretched.
    """

    name = "queries"
    order = "rgb"
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    resize = "stretch"
    roles = ("logits", "boxes")
    aliases: ClassVar[Mapping[str, str]] = {
        "pred_logits": "logits",
        "pred_boxes": "boxes",
        "labels": "logits",  # of RF-DETR, as is the next
        "dets": "boxes",
    }
    precise = ("logits", "boxes")
    declarable: ClassVar[frozenset[str]] = frozenset({"no_object"})

    def recognises(self, network: Network) -> bool:
        """Recognise it by its names."""
        return self.named(network) is not None

    def fits(self, shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> bool:
        """Compare the numbers of queries and columns."""
        logits, boxes = shapes["logits"], shapes["boxes"]
        return len(logits) == 2 and boxes == (logits[0], 4)

    def classes(self, network: Network, heads: Heads) -> int:
        """Return the number of columns of the logits that are classes."""
        return len(self._columns(network, heads))

    def candidates(self, network: Network, heads: Heads) -> int:
        """Return the number of queries and classes."""
        return heads["logits"].shape[0] * self.classes(network, heads)

    def boxes(self, network: Network, heads: Heads, count: int, graph: Graph) -> Value:
        """Select the best `count` pairs of a query and a class, as the authors do."""
        logits, boxes = (graph.tensor(heads[role].tensor) for role in self.roles)
        columns = self._columns(network, heads)
        scores = scores_of(network, logits, logits.pick(columns, axis=2))
        scores, place = scores.reshape(0, 1, -1).top(count)
        query = place / len(columns)
        class_id = place - query * len(columns)
        every = query.then("Expand", graph.constant([1, 4, 1]))
        found = boxes.transpose(0, 2, 1).gather(every, axis=2)
        height, width = network.size
        found = found * graph.constant([[float(side)] for side in (width, height, width, height)])
        centre, half = found.part(0, 2, axis=1), found.part(2, 4, axis=1) / 2.0
        parts = (centre - half, centre + half, scores, class_id.cast(TensorProto.FLOAT))
        return graph.concat(*parts, axis=1).transpose(0, 2, 1)

    def _columns(self, network: Network, heads: Heads) -> list[int]:
        """Return the columns of the logits that are classes."""
        columns = list(range(heads["logits"].shape[1]))
        no_object = network.declared.no_object
        if no_object is not None:
            if not -len(columns) <= no_object < len(columns):
                raise ModelError(f"it has no column {no_object} of {len(columns)} class logits")
            del columns[no_object]
        return columns

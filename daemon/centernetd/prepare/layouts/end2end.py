"""The layout of detectors whose export ends in a list of boxes, scores and classes."""

import ast
from collections.abc import Mapping

from onnx import ModelProto

from centernetd.errors import ModelError
from centernetd.prepare.graph import Graph, Value, ancestors
from centernetd.prepare.layouts.base import BoxLayout, Heads, Network
from centernetd.prepare.layouts.heatmap import nan_first

_MAX_NAMES_LENGTH = 2**16  # characters
_SELECTS = {"NonMaxSuppression", "TopK"}


class End2End(BoxLayout):
    """[batch, N, 6]: x1, y1, x2, y2 in input pixels, score, class, as of YOLOv10 and YOLO26."""

    name = "end2end"
    order = "rgb"
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    roles = ("rows",)
    precise = ("rows",)

    def recognises(self, network: Network) -> bool:
        """Recognise it by the selection of the best rows, which tables per anchor lack."""
        heads = self.select(network)
        return heads is not None and any(
            node.op_type in _SELECTS
            for node in ancestors(network.model.graph, heads["rows"].tensor)
        )

    def fits(self, shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> bool:
        """Check for rows of six."""
        return len(shapes["rows"]) == 2 and shapes["rows"][1] == 6

    def classes(self, network: Network, heads: Heads) -> int:
        """Return the number of labels: the rows don't show how many classes there are."""
        classes = network.declared.classes or len(_names(network.model))
        if not classes:
            raise ModelError(
                "it doesn't name its classes: prepare it with --labels FILE, or set labels_file"
            )
        return classes

    def labels(self, network: Network, classes: int) -> tuple[str, ...]:
        """Return the labels in the file."""
        return _names(network.model)

    def candidates(self, network: Network, heads: Heads) -> int:
        """Return N."""
        return heads["rows"].shape[0]

    def boxes(self, network: Network, heads: Heads, count: int, graph: Graph) -> Value:
        """Sort the rows, which need not be sorted in the export."""
        rows = graph.tensor(heads["rows"].tensor).transpose(0, 2, 1)
        score = rows.part(4, 5, axis=1)
        score, row = nan_first(score, score).top(count)
        every = row.then("Expand", graph.constant([1, 6, 1]))
        rows = rows.gather(every, axis=2)
        parts = (rows.part(0, 4, axis=1), score, rows.part(5, 6, axis=1))
        return graph.concat(*parts, axis=1).transpose(0, 2, 1)


def _names(model: ModelProto) -> tuple[str, ...]:
    """Return the labels that Ultralytics' exporter adds to the metadata, as a dict of Python."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "names"), "")
    if len(text) > _MAX_NAMES_LENGTH:
        return ()
    try:
        names = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return ()
    if not isinstance(names, dict) or list(names) != list(range(len(names))):
        return ()
    return tuple(map(str, names.values()))

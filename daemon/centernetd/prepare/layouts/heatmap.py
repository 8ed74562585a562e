"""What an exported heatmap already includes: its sigmoid, and the pooling that finds its peaks."""

from enum import Enum

import numpy as np
from onnx import GraphProto, NodeProto, helper

from centernetd.prepare.graph import Value, ancestors
from centernetd.prepare.layouts.base import Network

_MOVES = {
    "Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip
_KEEPS_PROBABILITY = _MOVES | {"Clip", "Max", "MaxPool", "Min", "Mul", "Where"}


class Pooling(Enum):
    """Use of a heatmap's 3x3 max-pool of stride 1."""

    NONE = "none"
    OUTPUT = "output"  # it is part of the output
    COMPARED = "compared"  # it is only used to find the peaks


def pooling(graph: GraphProto, output: str) -> Pooling:
    """Return the use of the max-pool upstream of `output`."""
    if any(map(_is_peak_pool, ancestors(graph, output, through=_MOVES))):
        return Pooling.OUTPUT
    if any(map(_is_peak_pool, ancestors(graph, output))):
        return Pooling.COMPARED
    return Pooling.NONE


def scores_of(network: Network, output: Value, heat: Value) -> Value:
    """Return the scores in `heat`, a part of `output`, adding a sigmoid unless it has one.

    NaN becomes infinity, see `nan_first`.
    """
    if _ends_in_sigmoid(network.model.graph, output.name):
        return nan_first(heat, heat)
    return nan_first(heat, heat.then("Sigmoid"))


def nan_first(heat: Value, scores: Value) -> Value:
    """Set the scores of NaNs in `heat` to infinity.

    Depending on the backend, sigmoid, pooling and top-k lose a NaN or spread it. Infinity always
    sorts first, and such a detection is dropped and reported.
    """
    return heat.then("IsNaN").then("Where", heat.graph.constant(np.inf), scores)


def _ends_in_sigmoid(graph: GraphProto, output: str) -> bool:
    """Return whether (part of) `output` comes from a Sigmoid, at most moved, clipped or masked."""
    return any(
        node.op_type == "Sigmoid" for node in ancestors(graph, output, through=_KEEPS_PROBABILITY)
    )


def _is_peak_pool(node: NodeProto) -> bool:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    strides = attributes.get("strides", [1, 1])
    return node.op_type == "MaxPool" and attributes["kernel_shape"] == [3, 3] and strides == [1, 1]

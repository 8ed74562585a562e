"""Analysis of the nodes before a network's output."""

from collections.abc import Iterator, Set
from enum import Enum

from onnx import GraphProto, NodeProto, helper

_MOVES = {
    "Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_KEEPS_PROBABILITY = _MOVES | {"Clip", "Max", "MaxPool", "Min", "Mul", "Where"}


class Pooling(Enum):
    """Use of a heatmap's 3x3 max-pool of stride 1."""

    NONE = "none"
    OUTPUT = "output"  # it is part of the output
    COMPARED = "compared"  # it is only used to find the peaks


def ends_in_sigmoid(graph: GraphProto, output: str) -> bool:
    """Return whether (part of) `output` comes from a Sigmoid, at most moved, clipped or masked."""
    return any(
        node.op_type == "Sigmoid" for node in _ancestors(graph, output, through=_KEEPS_PROBABILITY)
    )


def pooling(graph: GraphProto, output: str) -> Pooling:
    """Return the use of the max-pool upstream of `output`."""
    if any(map(_is_peak_pool, _ancestors(graph, output, through=_MOVES))):
        return Pooling.OUTPUT
    if any(map(_is_peak_pool, _ancestors(graph, output))):
        return Pooling.COMPARED
    return Pooling.NONE


def last_layer(graph: GraphProto, output: str) -> list[NodeProto]:
    """Return the last nodes with weights upstream of `output`, and all nodes in between."""
    return list(_ancestors(graph, output, until=_LAYERS))


def _is_peak_pool(node: NodeProto) -> bool:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    strides = attributes.get("strides", [1, 1])
    return node.op_type == "MaxPool" and attributes["kernel_shape"] == [3, 3] and strides == [1, 1]


def _ancestors(
    graph: GraphProto,
    tensor: str,
    through: Set[str] | None = None,
    until: Set[str] = frozenset(),
) -> Iterator[NodeProto]:
    """Walk upstream from `tensor`, visiting each node once.

    Continue only past operators in `through`, if given, and never past those in `until`.
    """
    producers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [tensor], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        node = producers[name]
        yield node
        if node.op_type not in until and (through is None or node.op_type in through):
            waiting.extend(node.input)

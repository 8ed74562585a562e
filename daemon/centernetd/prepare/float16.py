"""Converting a bare network to float16.

The order matters. Converting a prepared model rounds the two sides of its peak comparison
differently, so that detections vanish. Therefore the network is converted first, and pre- and
post-processing are then added in float32.
"""

from collections.abc import Sequence
from graphlib import TopologicalSorter

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from centernetd.errors import ModelError
from centernetd.model.files import first_line
from centernetd.prepare.graph import last_layer, reads, replace


def to_float16(model: ModelProto, scores: Sequence[str]) -> None:
    """Make a bare network compute in float16, in place; inputs and outputs stay float32.

    The last layer before each of the outputs `scores`, and all nodes after it, stay float32. In
    float16, neighbouring cells of a heatmap often round to the same score, so that an object is
    detected twice: with CenterFace, one in 133. Operators not defined for float16 stay float32
    between casts, and weights beyond its range are clipped.

    Raises
    ------
    ModelError
        The network can't be converted.
    """
    # Slow to import, and not needed for float32.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = model.graph
    _make_initializers(graph)
    body, tail = _split(graph, scores)
    _part_constants(graph, body, tail)
    results = list(graph.output)
    replace(graph.node, body)
    replace(graph.output, _crossing(model, body, tail, results))
    try:
        converted = convert_float_to_float16(model, keep_io_types=True)
    except Exception as error:  # it raises AssertionError, and any error of shape inference
        raise ModelError(
            f"it can't be converted to float16 ({first_line(error)}): keep it in float32"
        ) from None
    replace(converted.graph.node, [*_sorted(converted.graph.node), *tail])
    replace(converted.graph.output, results)
    del converted.graph.value_info[:]
    model.CopyFrom(converted)


def _make_initializers(graph: GraphProto) -> None:
    """Turn Constant nodes into initializers.

    The converter keeps an initializer in float32 if its consumer needs that (the scales of a
    Resize), but rounds every Constant.
    """
    for node in graph.node:
        if _is_tensor_constant(node):
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    replace(graph.node, [node for node in graph.node if not _is_tensor_constant(node)])


def _is_tensor_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _split(graph: GraphProto, scores: Sequence[str]) -> tuple[list[NodeProto], list[NodeProto]]:
    """Split the nodes into the body and those from the last layer of `scores` on."""
    last = [node for output in scores for node in last_layer(graph, output)]
    behind = {name for node in last for name in node.output}
    body, tail = [], []
    for node in graph.node:
        if behind.intersection(node.output) or behind.intersection(reads(node)):
            behind.update(node.output)
            tail.append(node)
        else:
            body.append(node)
    return body, tail


def _part_constants(graph: GraphProto, body: list[NodeProto], tail: list[NodeProto]) -> None:
    """Give `tail` its own copies of the initializers that it shares with `body`."""
    shared = _read_by(body) & _read_by(tail)
    for tensor in [tensor for tensor in graph.initializer if tensor.name in shared]:
        own = graph.initializer.add()
        own.CopyFrom(tensor)
        own.name = f"{tensor.name}/float32"
        for node in tail:
            names = [own.name if name == tensor.name else name for name in node.input]
            replace(node.input, names)


def _crossing(
    model: ModelProto,
    body: list[NodeProto],
    tail: list[NodeProto],
    results: Sequence[onnx.ValueInfoProto],
) -> list[onnx.ValueInfoProto]:
    """Declare the tensors that leave `body`: its results, and the inputs of `tail`."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    declared = {value.name: value for value in (*inferred.value_info, *results)}
    made = {name for node in body for name in node.output}
    leaving = made & (_read_by(tail) | {value.name for value in results})
    return [
        declared.get(name, onnx.helper.make_empty_tensor_value_info(name))
        for name in sorted(leaving)
    ]


def _read_by(nodes: list[NodeProto]) -> set[str]:
    return {name for node in nodes for name in reads(node)}


def _sorted(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Sort the nodes topologically; the converter appends its own at the end."""
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = {
        index: [maker[name] for name in reads(node) if name in maker]
        for index, node in enumerate(nodes)
    }
    return [nodes[index] for index in TopologicalSorter(needs).static_order()]

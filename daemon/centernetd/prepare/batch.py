"""Making a network that was exported for one batch size accept any."""

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from centernetd.prepare.graph import Graph

Constants = dict[str, npt.NDArray[np.int64]]

_MOST_DIMENSIONS = 16  # a larger constant is not a shape
_SHAPE_WORK = {
    "Add", "Cast", "Concat", "Constant", "Div", "Gather", "Identity", "Mul", "Reshape", "Slice",
    "Squeeze", "Sub", "Unsqueeze",
}  # fmt: skip
_SHAPE_INPUT = {"Reshape": 1, "Expand": 1, "Resize": 3}


def free(model: ModelProto, batch: int) -> None:
    """Make every Reshape, Expand and Resize to ``[batch, ...]`` keep its input's batch size.

    This includes shapes that an unsimplified export computes from constants. Tensors that don't
    depend on the image have no batch and are left alone.
    """
    graph = model.graph
    shapes, constants = _shapes(model), _constants(model)
    nodes: list[NodeProto] = []
    for node in graph.node:
        place = _SHAPE_INPUT.get(node.op_type, len(node.input))
        shape = shapes.get(node.input[place]) if place < len(node.input) else None
        if shape is not None and node.input[0] not in constants and _begins(shape, batch):
            mended = Graph(f"{node.output[0]}/batch")
            node.input[place] = _freed(mended, node, shape)
            graph.initializer.extend(mended.constants)
            nodes.extend(mended.nodes)
        nodes.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _begins(shape: npt.NDArray[np.int64], batch: int) -> bool:
    """Return whether `shape` begins with `batch`; a single number is not the shape of a map."""
    return shape.ndim == 1 and len(shape) > 1 and shape[0] == batch


def _freed(graph: Graph, node: NodeProto, shape: npt.NDArray[np.int64]) -> str:
    """Return the name of a shape whose first dimension is that of the node's input."""
    rest = [int(length) for length in shape[1:]]
    if node.op_type == "Reshape" and not (_takes_zero_literally(node) and 0 in rest):
        del node.attribute[:]  # its only attribute is allowzero
        return graph.constant([0, *rest]).name
    if node.op_type == "Expand":  # 1 broadcasts
        return graph.constant([1, *rest]).name
    given = graph.tensor(node.input[0]).then("Shape").part(0, 1, axis=0)
    return graph.concat(given, graph.constant(rest), axis=0).name


def _takes_zero_literally(node: NodeProto) -> bool:
    return any(item.name == "allowzero" and item.i for item in node.attribute)


def _constants(model: ModelProto) -> set[str]:
    """Return the names of all tensors that don't depend on the image."""
    found = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(not name or name in found for name in node.input):
            found.update(node.output)
    return found


def _shapes(model: ModelProto) -> Constants:
    """Return all constants that may be shapes, including those computed from other constants."""
    found: Constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT64 and np.prod(tensor.dims) <= _MOST_DIMENSIONS
    }
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        if node.op_type in _SHAPE_WORK and all(name in found for name in node.input if name):
            results = ReferenceEvaluator(node, opsets=opsets).run(
                None, {name: found[name] for name in node.input if name}
            )
            found.update(
                (name, value)
                for name, value in zip(node.output, results, strict=True)
                if value.dtype == np.int64 and value.size <= _MOST_DIMENSIONS
            )
    return found

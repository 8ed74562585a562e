"""Repairing common defects of exports, and reducing the model to the bare network."""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from centernetd.errors import ModelError
from centernetd.model.files import first_line
from centernetd.prepare.deform import DOMAIN as PLUGINS_DOMAIN
from centernetd.prepare.deform import adopt_plugins, rewrite_deform_conv
from centernetd.prepare.graph import ONNX_DOMAINS, Graph, opset, replace

SCOPE = "network/"  # prefix of all names of the network in a prepared model

OPSET = 17
_IR_VERSION = 8  # that of opset 17; before version 4, initializers had to be listed as inputs
_MIN_SIZE = 64  # a smaller declared size is an exporter's placeholder
_MAX_DIMENSIONS = 16  # a larger constant is not a shape
_SHAPE_WORK = {
    "Add", "Cast", "Concat", "Constant", "Div", "Gather", "Identity", "Mul", "Reshape", "Slice",
    "Squeeze", "Sub", "Unsqueeze",
}  # fmt: skip
_SHAPE_INPUT = {"Reshape": 1, "Expand": 1, "Resize": 3}
_STANDARD = (*ONNX_DOMAINS, "ai.onnx.ml")
_RUNTIME = "com.microsoft"  # ONNX Runtime's own, added by its optimizer

Constants = dict[str, npt.NDArray[np.int64]]


def declared_size(model: ModelProto) -> tuple[int, int] | None:
    """Return the (height, width) that `model` was exported at, or None if undeclared."""
    *_, height, width = _shape(network_input(model))
    return (height, width) if min(height, width) >= _MIN_SIZE else None


def clean(model: ModelProto, size: tuple[int, int]) -> None:
    """Turn `model`, in place, into a network with a single input [batch, 3, height, width].

    Afterwards its initializers are not inputs, its functions are inlined, its opset is at least
    `OPSET`, no shape contains a batch size, deformable convolutions are replaced, and all names
    begin with `SCOPE`.

    Raises
    ------
    ModelError
        It has custom operators or non-image inputs, or is too old.
    """
    source = network_input(model)
    batch = _shape(source)[0]
    del model.graph.input[:]
    model.graph.input.append(
        helper.make_tensor_value_info(source.name, TensorProto.FLOAT, ["batch", 3, *size])
    )
    model.ir_version = max(model.ir_version, _IR_VERSION)
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):  # clearing would otherwise create a tensor type
            output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    if model.functions:
        model.CopyFrom(inline_local_functions(model))
    adopt_plugins(model)
    _refuse_custom(model)
    _upgrade(model)
    if batch > 0:
        free_batch(model, batch)
    rewrite_deform_conv(model)
    onnx.compose.add_prefix(model, SCOPE, inplace=True)


def network_input(model: ModelProto) -> onnx.ValueInfoProto:
    """Return the single image input; initializers may be listed as inputs too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [
        value for value in model.graph.input if value.name not in constants
    ]
    if len(inputs) != 1:
        raise ModelError(f"it has {len(inputs)} inputs; one picture [batch, 3, H, W] is expected")
    if not inputs[0].type.tensor_type.HasField("shape"):
        raise ModelError(
            f"its input {inputs[0].name} has no declared rank: export it as [batch, 3, H, W]"
        )
    shape = _shape(inputs[0])
    if len(shape) != 4 or shape[1] not in (0, 3):
        raise ModelError(f"its input {inputs[0].name} is not a picture [batch, 3, H, W]")
    if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ModelError(f"its input {inputs[0].name} is not float32: export it in float32")
    return inputs[0]


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Return a shape with 0 for each symbolic dimension."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _upgrade(model: ModelProto) -> None:
    """Upgrade the ONNX operators to `OPSET`."""
    version = opset(model)
    if version >= OPSET:
        return
    try:
        model.CopyFrom(onnx.version_converter.convert_version(model, OPSET))
    except (onnx.version_converter.ConvertError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"it can't be converted from opset {version} to {OPSET} ({first_line(error)}): "
            f"export it again with opset {OPSET}"
        ) from None


def _refuse_custom(model: ModelProto) -> None:
    """Raise `ModelError` naming the operators that ONNX doesn't define.

    Those of ONNX Runtime and the adopted plugins are allowed.
    """
    custom = {
        f"{node.op_type} of {node.domain}" if node.domain else node.op_type: None
        for node in model.graph.node
        if node.domain not in (_RUNTIME, PLUGINS_DOMAIN)
        and not (node.domain in _STANDARD and onnx.defs.has(node.op_type, domain=_domain(node)))
    }
    if custom:
        raise ModelError(
            f"it needs operators that ONNX doesn't define ({', '.join(custom)}): export it again "
            "with standard ones"
        )


def _domain(node: onnx.NodeProto) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def free_batch(model: ModelProto, batch: int) -> None:
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
        if shape is not None and node.input[0] not in constants and _is_batched(shape, batch):
            added = Graph(f"{node.output[0]}/batch")
            node.input[place] = _dynamic_shape(added, node, shape)
            graph.initializer.extend(added.constants)
            nodes.extend(added.nodes)
        nodes.append(node)
    replace(graph.node, [NodeProto.FromString(node.SerializeToString()) for node in nodes])


def _is_batched(shape: npt.NDArray[np.int64], batch: int) -> bool:
    """Return whether `shape` begins with `batch`; a single number is not the shape of a map."""
    return shape.ndim == 1 and len(shape) > 1 and shape[0] == batch


def _dynamic_shape(graph: Graph, node: NodeProto, shape: npt.NDArray[np.int64]) -> str:
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
        if tensor.data_type == TensorProto.INT64 and np.prod(tensor.dims) <= _MAX_DIMENSIONS
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
                if value.dtype == np.int64 and value.size <= _MAX_DIMENSIONS
            )
    return found

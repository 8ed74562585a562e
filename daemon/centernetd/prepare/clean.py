"""Repairing common defects of exports, and reducing the model to the bare network."""

from collections.abc import Iterator, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.inliner import inline_local_functions

from centernetd.errors import ModelError
from centernetd.model.files import first_line
from centernetd.prepare.batch import free
from centernetd.prepare.deform import rewrite_deform_conv
from centernetd.prepare.deform_plugins import DOMAIN as PLUGINS_DOMAIN
from centernetd.prepare.deform_plugins import adopt_plugins
from centernetd.prepare.operators import refuse_custom

SCOPE = "network/"  # prefix of all names of the network in a prepared model

OPSET = 17
_IR_VERSION = 8  # that of opset 17; before version 4, initializers had to be listed as inputs
_LEAST_SIZE = 64  # a smaller declared size is an exporter's placeholder


def declared_size(model: ModelProto) -> tuple[int, int] | None:
    """Return the (height, width) that `model` was exported at, or None if undeclared."""
    *_, height, width = _shape(network_input(model))
    return (height, width) if min(height, width) >= _LEAST_SIZE else None


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
    refuse_custom(model, known=PLUGINS_DOMAIN)
    _upgrade(model)
    if batch > 0:
        free(model, batch)
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


def keep(graph: GraphProto, outputs: Sequence[str]) -> None:
    """Remove, in place, all outputs except `outputs`, and what only they depend on."""
    kept = [output for output in graph.output if output.name in outputs]
    del graph.output[:]
    graph.output.extend(kept)
    prune(graph, outputs)


def prune(graph: GraphProto, outputs: Sequence[str]) -> None:
    """Remove, in place, nodes and initializers that `outputs` don't depend on.

    They are deleted individually: rebuilding the lists would hold the weights twice.
    """
    needed = set(outputs)
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if needed.intersection(node.output):
            needed.update(reads(node))
        else:
            del graph.node[index]
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]


def reads(node: NodeProto) -> Iterator[str]:
    """Yield the names of all tensors that `node` reads, also those read in its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
            yield from (output.name for output in graph.output)


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Return a shape with 0 for each symbolic dimension."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _upgrade(model: ModelProto) -> None:
    """Upgrade the ONNX operators to `OPSET`."""
    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version >= OPSET:
        return
    try:
        model.CopyFrom(onnx.version_converter.convert_version(model, OPSET))
    except (onnx.version_converter.ConvertError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"it can't be brought from opset {version} to {OPSET} ({first_line(error)}): "
            f"export it again with opset {OPSET}"
        ) from None

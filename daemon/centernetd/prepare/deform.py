"""Deformable convolution without plugins: GridSample, a product, and a 1x1 convolution.

Modulated deformable convolution ("Deformable ConvNets v2", Zhu et al., 2018, equation 1) samples
its input at a separate position for every kernel tap and output cell, multiplies each sample by a
modulation, and sums over taps and channels with the kernel's weights. The sampling is bilinear
with zeros outside, as in GridSample; the sum is a 1x1 convolution over taps times channels.
TensorRT has both, and the batch stays dynamic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from centernetd.errors import ModelError
from centernetd.prepare.graph import (
    ONNX_DOMAINS,
    Graph,
    Value,
    forget_unused_domains,
    opset,
    replace,
)

OPERATOR = "DeformConv"
DOMAIN = "centernetd"  # of the operator in models whose opset predates it
_OPERATOR_OPSET = 19  # the first with `OPERATOR`
_LINEAR_OPSET = 20  # the first in which GridSample calls its bilinear mode "linear"

# Inputs of these plugins: input, offsets, (modulation,) weights, optionally bias.
_MODULATED = {"DCNv2", "DCNv2Plugin", "MMCVModulatedDeformConv2d", "ModulatedDeformConv2d"}
_PLAIN = {"MMCVDeformConv2d"}
_OFFSET_GROUPS = ("deformable_groups", "deformable_group", "deform_groups")
_KNOWN = {"stride", "padding", "dilation", "groups", *_OFFSET_GROUPS}
_IGNORED = {"im2col_step", "kernel_size", "out_channel", "out_channels", "bias"}

Shape = Sequence[int]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """Window of a deformable convolution; pairs are (vertical, horizontal)."""

    taps: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    offset_groups: int = 1

    @classmethod
    def of(cls, node: NodeProto, weights: Shape) -> "Window":
        """Read the attributes of a DeformConv node with weights of this shape."""
        given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
        pads = given.get("pads", [0, 0, 0, 0])
        return cls(
            taps=(weights[2], weights[3]),
            strides=(strides[0], strides[1]),
            pads=(pads[0], pads[1]),
            dilations=(dilations[0], dilations[1]),
            groups=given.get("group", 1),
            offset_groups=given.get("offset_group", 1),
        )


def adopt_plugins(model: ModelProto) -> None:
    """Turn plugin nodes of deformable convolution, in place, into `OPERATOR`.

    They get the domain `DOMAIN`, which ONNX's version converter leaves alone: call this before
    converting. The plugins are those of CenterNet's and MMCV's exports. Their offset channels are
    in ONNX's order: (y, x) for each tap in turn.

    Raises
    ------
    ModelError
        A plugin has unknown inputs or attributes.
    """
    adopted = [node for node in model.graph.node if node.op_type in _MODULATED | _PLAIN]
    for node in adopted:
        node.CopyFrom(_adopt(node))
    if adopted and DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _adopt(node: NodeProto) -> NodeProto:
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    names = list(node.input)
    if node.op_type in _PLAIN:
        names.insert(2, "")  # no modulation
    if len(names) not in (4, 5) or given.keys() - _KNOWN - _IGNORED:
        raise ModelError(
            f"its {node.op_type} has {len(node.input)} inputs and the attributes "
            f"{', '.join(sorted(given))}, which are not known: export it with the operator "
            f"{OPERATOR} (opset 19)"
        )
    source, offset, mask, weight = names[:4]
    bias = names[4] if len(names) == 5 else ""
    groups = [given[name] for name in _OFFSET_GROUPS if name in given]
    return helper.make_node(
        OPERATOR,
        [source, weight, offset, bias, mask],
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        strides=_pair(given.get("stride", 1)),
        pads=_pair(given.get("padding", 0)) * 2,
        dilations=_pair(given.get("dilation", 1)),
        group=given.get("groups", 1),
        offset_group=groups[0] if groups else 1,
    )


def _pair(value: int | Sequence[int]) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def rewrite_deform_conv(model: ModelProto) -> None:
    """Replace every deformable convolution of `model`, in place.

    ONNX's DeformConv and the plugins known to `adopt_plugins` become operators that every
    TensorRT parses. Requires opset 16 or later, and a network input of fixed height and width:
    sampling positions are relative to the input's size.

    Raises
    ------
    ModelError
        The height and width of its input, or the size of the kernel, is unknown.
    """
    adopt_plugins(model)
    graph = model.graph
    if not any(map(_is_deform_conv, graph.node)):
        return
    shapes = _shapes(model)
    mode = "linear" if opset(model) >= _LINEAR_OPSET else "bilinear"
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if not _is_deform_conv(node):
            nodes.append(node)
            continue
        added = Graph(f"{node.output[0]}/deform")
        _sampled_convolution(added, node, shapes, weights, mode).named(node.output[0])
        nodes.extend(added.nodes)
        graph.initializer.extend(added.constants)
    replace(graph.node, nodes)
    forget_unused_domains(model)


def _sampled_convolution(
    graph: Graph,
    node: NodeProto,
    shapes: Mapping[str, Shape],
    weights: Mapping[str, onnx.TensorProto],
    mode: str,
) -> Value:
    source, kernel, offset, bias, mask = [*node.input, "", ""][:5]
    for name in (source, kernel, offset):
        if len(shapes.get(name, ())) != 4 or 0 in shapes[name][1:]:
            raise ModelError(
                f"the size of {name}, which its deformable convolution reads, is not known: "
                "export it with a fixed height and width"
            )
    window = Window.of(node, shapes[kernel])
    count = window.taps[0] * window.taps[1]
    channels, *size = shapes[source][1:]
    rows, columns = shapes[offset][2:]
    grid = _grid(graph.tensor(offset), window, (size[0], size[1]), (rows, columns))
    # the offset groups move into the batch dimension, the taps are stacked vertically
    read = graph.tensor(source).reshape(-1, channels // window.offset_groups, *size)
    found = read.then("GridSample", grid, mode=mode, padding_mode="zeros", align_corners=0)
    if mask:
        found = found * graph.tensor(mask).reshape(-1, 1, count * rows, columns)
    stacked = found.reshape(-1, channels * count, rows, columns)
    flat = [shapes[kernel][0], shapes[kernel][1] * count, 1, 1]
    operands = [_reshaped(graph, kernel, flat, weights)]
    if bias:
        operands.append(graph.tensor(bias))
    return stacked.then("Conv", *operands, group=window.groups)


def _grid(offset: Value, window: Window, size: tuple[int, int], cells: tuple[int, int]) -> Value:
    """Return the sampling positions, [batch * offset groups, taps * rows, columns, 2]."""
    taps, (rows, columns) = window.taps[0] * window.taps[1], cells
    moved = offset.reshape(-1, taps, 2, rows, columns).transpose(0, 1, 3, 4, 2)
    scale, of_taps, of_cells = sampling_positions(window, size, cells)
    read_at = moved.pick([1, 0], axis=4) * scale + of_taps + of_cells
    return read_at.reshape(-1, taps * rows, columns, 2)


def sampling_positions(
    window: Window, size: tuple[int, int], cells: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Return the sampling positions of a window without offsets: GridSample's (x, y) in [-1, 1].

    The window maps `size` (rows, columns) to `cells` (rows, columns). Returned are the scale for
    offsets in pixels [2], and the terms to add for each tap [1, taps, 1, 1, 2] and each cell
    [1, 1, rows, columns, 2].
    """
    # without aligned corners, the centre of pixel p of n is at (2 p + 1) / n - 1
    centres = [
        (2 * (np.arange(count) * stride - begin) + 1) / length - 1
        for count, stride, begin, length in zip(
            cells, window.strides, window.pads, size, strict=True
        )
    ]
    reach = [
        2 * np.arange(count) * dilation / length
        for count, dilation, length in zip(window.taps, window.dilations, size, strict=True)
    ]
    scale = np.array([2 / size[1], 2 / size[0]], np.float32)
    return scale, _points(*reach).reshape(1, -1, 1, 1, 2), _points(*centres)[None, None]


def _points(vertical: npt.NDArray[np.float64], horizontal: npt.NDArray[np.float64]) -> Array:
    """Return the points (x, y) of the grid spanned by two axes, [rows, columns, 2]."""
    return np.stack(np.meshgrid(horizontal, vertical), axis=-1).astype(np.float32)


def _reshaped(
    graph: Graph, name: str, shape: Shape, weights: Mapping[str, onnx.TensorProto]
) -> Value:
    if name in weights:  # quantizers expect constants
        return graph.constant(numpy_helper.to_array(weights[name]).reshape(shape))
    return graph.tensor(name).reshape(*shape)


def _shapes(model: ModelProto) -> dict[str, Shape]:
    """Infer the shapes of all tensors, with 0 for symbolic dimensions."""
    twin = ModelProto()
    twin.CopyFrom(model)
    for node in filter(_is_deform_conv, twin.graph.node):
        node.domain = ""
    for entry in twin.opset_import:
        if entry.domain in ONNX_DOMAINS:
            entry.version = max(entry.version, _OPERATOR_OPSET)
    graph: GraphProto = onnx.shape_inference.infer_shapes(twin, data_prop=True).graph
    known: dict[str, Shape] = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return known | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _is_deform_conv(node: NodeProto) -> bool:
    return node.op_type == OPERATOR and node.domain in (*ONNX_DOMAINS, DOMAIN)

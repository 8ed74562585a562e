"""Deformable convolution without plugins: GridSample, a product, and a 1x1 convolution.

Modulated deformable convolution ("Deformable ConvNets v2", Zhu et al., 2018, equation 1) samples
its input at a separate position for every kernel tap and output cell, multiplies each sample by a
modulation, and sums over taps and channels with the kernel's weights. The sampling is bilinear
with zeros outside, as in GridSample; the sum is a 1x1 convolution over taps times channels.
TensorRT has both, and the batch stays dynamic.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from centernetd.errors import ModelError
from centernetd.prepare.deform_plugins import DOMAIN, OPERATOR, STANDARD_DOMAINS, adopt_plugins
from centernetd.prepare.graph import Graph, Value

_OPERATOR_OPSET = 19  # the first with `OPERATOR`
_LINEAR_OPSET = 20  # the first in which GridSample calls its bilinear mode "linear"

Shape = Sequence[int]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """Window of a deformable convolution; pairs are (vertical, horizontal)."""

    taps: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    begins: tuple[int, int] = (0, 0)
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
            begins=(pads[0], pads[1]),
            dilations=(dilations[0], dilations[1]),
            groups=given.get("group", 1),
            offset_groups=given.get("offset_group", 1),
        )


def rewrite_deform_conv(model: ModelProto) -> int:
    """Replace every deformable convolution of `model`, in place, and return their number.

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
        return 0
    shapes = _shapes(model)
    mode = "linear" if _opset(model) >= _LINEAR_OPSET else "bilinear"
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, count = list[NodeProto](), 0
    for node in graph.node:
        if not _is_deform_conv(node):
            nodes.append(node)
            continue
        added = Graph(f"{node.output[0]}/deform")
        _sampled_convolution(added, node, shapes, weights, mode).named(node.output[0])
        nodes.extend(added.nodes)
        graph.initializer.extend(added.constants)
        count += 1
    del graph.node[:]
    graph.node.extend(nodes)
    _forget_domain(model)
    return count


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
                f"the size of {name}, which its deformable convolution reads, can't be told: "
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
    scale, of_taps, of_cells = places(window, size, cells)
    read_at = moved.pick([1, 0], axis=4) * scale + of_taps + of_cells
    return read_at.reshape(-1, taps * rows, columns, 2)


def places(
    window: Window, size: tuple[int, int], cells: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Return the sampling positions of a window without offsets: GridSample's (x, y) in [-1, 1].

    The window maps `size` (rows, columns) to `cells` (rows, columns). Returned are the scale for
    offsets in pixels [2], and the terms to add for each tap [1, taps, 1, 1, 2] and each cell
    [1, 1, rows, columns, 2].
    """
    # without aligned corners, the centre of pixel p of n is at (2 p + 1) / n - 1
    lies = [
        (2 * (np.arange(count) * stride - begin) + 1) / length - 1
        for count, stride, begin, length in zip(
            cells, window.strides, window.begins, size, strict=True
        )
    ]
    reach = [
        2 * np.arange(count) * dilation / length
        for count, dilation, length in zip(window.taps, window.dilations, size, strict=True)
    ]
    scale = np.array([2 / size[1], 2 / size[0]], np.float32)
    return scale, _points(*reach).reshape(1, -1, 1, 1, 2), _points(*lies)[None, None]


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
        if entry.domain in STANDARD_DOMAINS:
            entry.version = max(entry.version, _OPERATOR_OPSET)
    graph: GraphProto = onnx.shape_inference.infer_shapes(twin, data_prop=True).graph
    known: dict[str, Shape] = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return known | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _forget_domain(model: ModelProto) -> None:
    """Remove the imports of domains that no node uses any more."""
    used = {node.domain for node in model.graph.node} | set(STANDARD_DOMAINS)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _opset(model: ModelProto) -> int:
    versions: Iterator[int] = (
        entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS
    )
    return max(versions)


def _is_deform_conv(node: NodeProto) -> bool:
    return node.op_type == OPERATOR and node.domain in (*STANDARD_DOMAINS, DOMAIN)

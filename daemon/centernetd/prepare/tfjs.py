"""A TensorFlow.js graph model as an ONNX network, for a built-in model that is published as one.

It knows the operators of plain convolutional networks, and refuses any other by its name.
TensorFlow's maps are [batch, H, W, C], ONNX's [batch, C, H, W].
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from centernetd.errors import ModelError
from centernetd.prepare.graph import Graph, Value

Node = Mapping[str, Any]
Constants = Mapping[str, npt.NDArray[Any]]
Map = tuple[Value, float]  # a tensor, and how many input pixels long its cells are

_STORED = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}
_ELEMENTWISE = ("Add", "Identity", "Mul", "Relu", "Sigmoid")  # they have these names in ONNX, too


def convert(topology: bytes, weights: bytes, outputs: Mapping[str, str]) -> ModelProto:
    """Return the part of a graph model that makes `outputs`: TensorFlow's names by ours.

    `topology` is the content of its model.json, `weights` that of its .bin file. The network takes
    ``image`` [batch, 3, H, W] as the original does, of any size that its strides divide.

    Raises
    ------
    ModelError
        It has an operator, or a setting of one, that can't be converted.
    """
    document = json.loads(topology)
    nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
    converted = _Converted(nodes, _constants(document["weightsManifest"], weights))
    for ours, theirs in outputs.items():
        converted.map(theirs)[0].named(ours)
    shape = ("batch", 3, *converted.input_size)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None, None, None])
        for name in outputs
    ]
    graph = converted.graph
    return helper.make_model(
        helper.make_graph(graph.nodes, "tfjs", [image], results, graph.constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def _constants(manifest: Iterable[Mapping[str, Any]], content: bytes) -> Constants:
    """Return all weights by name; those stored as float16 as float32."""
    found, start = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        kind = entry.get("quantization", entry)["dtype"]
        if kind not in _STORED:
            raise ModelError(f"its weights {entry['name']} are stored as {kind}")
        stored = np.frombuffer(content, _STORED[kind], math.prod(entry["shape"]), start)
        start += stored.nbytes
        found[entry["name"]] = stored.reshape(entry["shape"]).astype(entry["dtype"])
    return found


class _Converted:
    """The nodes converted so far; each is converted when another one needs it."""

    def __init__(self, nodes: Mapping[str, Node], constants: Constants) -> None:
        self.graph = Graph("tfjs")
        self.input_size = (0, 0)
        self._nodes = nodes
        self._constants = constants
        self._maps: dict[str, Map] = {}

    def map(self, name: str) -> Map:
        """Convert what `name` depends on and then itself; without recursion, networks are deep."""
        waiting = [name]
        while waiting:
            node = self._nodes[waiting[-1]]
            needed = [key for key in node.get("input", ()) if key not in self._constants]
            if missing := [key for key in needed if key not in self._maps]:
                waiting += missing
            elif (done := waiting.pop()) not in self._maps:
                self._maps[done] = self._convert(node, [self._maps[key] for key in needed])
        return self._maps[name]

    def _convert(self, node: Node, maps: list[Map]) -> Map:
        """Convert one node that reads `maps`, in this order, and constants."""
        operator, values = node["op"], [value for value, _ in maps]
        cell = min((cell for _, cell in maps), default=1)
        given = [self._constants[key] for key in node.get("input", ()) if key in self._constants]
        if operator == "Placeholder":
            dims = node["attr"]["shape"]["shape"]["dim"]
            self.input_size = (int(dims[1]["size"]), int(dims[2]["size"]))
            return self.graph.tensor("image"), 1
        if operator in _ELEMENTWISE and all(numbers.ndim == 0 for numbers in given):
            values += map(self.graph.constant, given)
            return self.graph.node(operator, *values)[0], cell
        if operator == "Relu6":
            return values[0].then("Clip", *map(self.graph.constant, (0.0, 6.0))), cell
        if operator == "Mean" and sorted(given[0]) == [1, 2] and node["attr"]["keep_dims"]["b"]:
            return values[0].then("GlobalAveragePool"), math.inf
        if operator == "ConcatV2" and given[0] in (3, -1):
            return self.graph.concat(*values, axis=1), cell
        if operator == "ResizeBilinear":
            return self._resize(node, values[0], cell, given[0])
        if "Conv2" in operator:
            return self._convolution(node, values[0], cell, *given)
        raise ModelError(f"its operator {operator} ({node['name']}) can't be converted")

    def _convolution(self, node: Node, image: Value, cell: float, *given: npt.NDArray[Any]) -> Map:
        """Convert a convolution of any kind, and the bias and ReLU that may be fused into it."""
        weights, *bias = given  # [h, w, in, out], or [h, w, in, multiplier] if depthwise
        groups = weights.shape[2] if "Depthwise" in node["op"] else 1
        weights = weights.reshape(*weights.shape[:2], weights.shape[2] // groups, -1)
        listed = node["attr"].get("fused_ops", {}).get("list", {}).get("s", ())
        texts = (node["attr"]["padding"]["s"], *listed)
        padding, *fused = (base64.b64decode(text).decode() for text in texts)
        strides, dilations = (
            [int(step) for step in node["attr"][key]["list"]["i"]][1:3]
            for key in ("strides", "dilations")
        )
        if fused[1:] not in ([], ["Relu"]) or fused[:1] != ["BiasAdd"] * len(bias):
            raise ModelError(f"its convolution {node['name']} includes {' and '.join(fused)}")
        found = image.then(
            "Conv",
            *map(self.graph.constant, (weights.transpose(3, 2, 0, 1), *bias)),
            auto_pad={"SAME": "SAME_UPPER", "VALID": "VALID"}[padding],
            dilations=dilations,
            group=groups,
            kernel_shape=weights.shape[:2],
            strides=strides,
        )
        return found.then("Relu") if "Relu" in fused else found, cell * strides[0]

    def _resize(self, node: Node, image: Value, cell: float, size: npt.NDArray[Any]) -> Map:
        """Convert to a resize by a factor, which is right for any size of the input."""
        if node["attr"]["align_corners"]["b"] or node["attr"]["half_pixel_centers"]["b"]:
            raise ModelError(f"its resize {node['name']} aligns corners or centres")
        factors = [size[axis] * cell / self.input_size[axis] for axis in (0, 1)]
        nothing = self.graph.constant(np.zeros(0, np.float32))
        scales = self.graph.constant([1.0, 1.0, *factors])
        mode = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
        return image.then("Resize", nothing, scales, **mode), cell / factors[0]

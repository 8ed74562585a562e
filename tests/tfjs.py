"""Small TensorFlow.js graph models, made by hand and computed in NumPy as TensorFlow does."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.reference import sigmoid

Array = npt.NDArray[np.float32]
SIZE = (32, 48)
STRIDES = {1: ["1", "1", "1", "1"], 2: ["1", "2", "2", "1"]}


def text(value: str) -> dict[str, str]:
    """Encode text as an attribute."""
    return {"s": base64.b64encode(value.encode()).decode()}


@dataclass
class GraphModel:
    """A graph model in the making; `values` has what each node gives for `image` [B, H, W, 3]."""

    image: Array
    nodes: list[dict[str, Any]] = field(default_factory=list)
    weights: list[dict[str, Any]] = field(default_factory=list)
    stored: bytes = b""
    values: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dims = [{"size": str(length)} for length in (1, *self.image.shape[1:])]
        self.add("images", "Placeholder", [], self.image, shape={"shape": {"dim": dims}})

    def add(self, name: str, op: str, inputs: list[str], value: Array, **attr: object) -> str:
        """Add a node, with what it gives."""
        self.nodes.append({"name": name, "op": op, "input": inputs, "attr": attr})
        self.values[name] = value
        return name

    def constant(self, name: str, value: npt.ArrayLike, kind: str = "float16") -> str:
        """Add a weight; what is stored as float16 has the values of float16."""
        array = np.asarray(value).astype(kind)
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": kind}
        if kind == "float16":
            entry |= {"dtype": "float32", "quantization": {"dtype": kind}}
        self.weights.append(entry)
        self.nodes.insert(0, {"name": name, "op": "Const", "attr": {}})
        self.stored += array.tobytes()
        self.values[name] = array.astype(np.float32)
        return name

    def convolution(
        self, name: str, source: str, kernel: Array, *, stride: int = 1, padding: str = "SAME",
        depthwise: bool = False, fused: tuple[str, ...] = (), bias: Array | None = None,
    ) -> str:  # fmt: skip
        """Add a convolution; the bias is the first of `fused`."""
        inputs = [source, self.constant(f"{name}/weights", kernel)]
        value = convolve(self.values[source], self.values[inputs[1]], stride, padding, depthwise)
        if bias is not None:
            inputs.append(self.constant(f"{name}/bias", bias))
            value = value + self.values[inputs[2]]
        if "Relu" in fused:
            value = np.maximum(value, 0)
        ops = {False: ("Conv2D", "_FusedConv2D"), True: _DEPTHWISE}[depthwise]
        attr: dict[str, object] = {
            "strides": {"list": {"i": STRIDES[stride]}},
            "dilations": {"list": {"i": STRIDES[1]}},
            "padding": text(padding),
        }
        if fused:
            attr["fused_ops"] = {"list": {"s": [text(each)["s"] for each in fused]}}
        return self.add(name, ops[bool(fused)], inputs, value, **attr)

    def files(self) -> tuple[bytes, bytes]:
        """Return model.json and the weights."""
        manifest = [{"paths": ["model.bin"], "weights": self.weights}]
        topology = {"modelTopology": {"node": self.nodes}, "weightsManifest": manifest}
        return json.dumps(topology).encode(), self.stored


_DEPTHWISE = ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative")


def convolve(image: Array, kernel: Array, stride: int, padding: str, depthwise: bool) -> Array:
    """Convolve [B, H, W, in] with [h, w, in, out], or each channel with its own kernels."""
    high, wide = kernel.shape[:2]
    if padding == "SAME":  # what is odd is added below and to the right
        missing = [
            max((-(-length // stride) - 1) * stride + reach - length, 0)
            for length, reach in zip(image.shape[1:3], (high, wide), strict=True)
        ]
        around = [(0, 0), *((each // 2, each - each // 2) for each in missing), (0, 0)]
        image = np.pad(image, around)
    rows = (image.shape[1] - high) // stride + 1
    columns = (image.shape[2] - wide) // stride + 1
    total: Any = 0
    for y in range(high):
        for x in range(wide):
            part = image[:, y : y + rows * stride : stride, x : x + columns * stride : stride]
            if depthwise:
                product = part[..., None] * kernel[y, x]
                total = total + product.reshape(*part.shape[:3], -1)
            else:
                total = total + part @ kernel[y, x]
    return np.asarray(total, np.float32)


def enlarge(image: Array, factor: int) -> Array:
    """Resize [B, H, W, C] linearly, cell n of the result at n / factor."""
    for axis in (1, 2):
        length = image.shape[axis]
        at = np.arange(length * factor) / factor
        low = at.astype(int)
        share = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
        first, second = (image.take(np.minimum(n, length - 1), axis) for n in (low, low + 1))
        image = first * (1 - share) + second * share
    return image


def attribute(**flags: bool) -> Mapping[str, dict[str, bool]]:
    """Return flags as attributes."""
    return {name: {"b": value} for name, value in flags.items()}


def network(size: tuple[int, int] = SIZE, classes: int = 3) -> GraphModel:
    """Return a network of everything that is known: a heatmap, and four distances."""
    random = np.random.default_rng(5)
    model = GraphModel(np.random.default_rng(6).uniform(0, 1, (2, *size, 3)).astype(np.float32))
    values = model.values

    def weights(*shape: int) -> Array:
        return random.normal(0, 0.3, shape).astype(np.float32)

    model.convolution("first", "images", weights(3, 3, 3, 8), stride=2, fused=("BiasAdd",),
                      bias=weights(8))  # fmt: skip
    three, sixth = model.constant("three", 3.0), model.constant("sixth", 1 / 6, "float32")
    model.add("add", "Add", ["first", three], values["first"] + 3)
    model.add("relu6", "Relu6", ["add"], values["add"].clip(0, 6))
    model.add("mul", "Mul", [sixth, "first"], values["first"] * values["sixth"])
    model.add("swish", "Mul", ["mul", "relu6"], values["mul"] * values["relu6"])
    model.convolution("deep", "swish", weights(5, 5, 8, 2), stride=2, depthwise=True,
                      fused=("BiasAdd", "Relu"), bias=weights(16))  # fmt: skip
    axes = model.constant("axes", [1, 2], "int32")
    mean = values["deep"].mean(axis=(1, 2), keepdims=True)
    model.add("mean", "Mean", ["deep", axes], mean, **attribute(keep_dims=True))
    model.convolution("gate", "mean", weights(1, 1, 16, 16))
    model.add("sigmoid", "Sigmoid", ["gate"], sigmoid(values["gate"]))
    model.add("gated", "Mul", ["sigmoid", "deep"], values["sigmoid"] * values["deep"])
    rows = model.constant("size", [size[0] // 2, size[1] // 2], "int32")
    settings = attribute(align_corners=False, half_pixel_centers=False)
    model.add("large", "ResizeBilinear", ["gated", rows], enlarge(values["gated"], 2), **settings)
    last = model.constant("last", 3, "int32")
    both = np.concatenate([values["large"], values["swish"]], axis=3)
    model.add("both", "ConcatV2", ["large", "swish", last], both)
    model.convolution("end", "both", weights(3, 3, 24, 1), stride=2, depthwise=True)
    model.convolution("heads", "end", weights(1, 1, 24, classes), padding="VALID")
    model.add("relu", "Relu", ["heads"], values["heads"].clip(0))
    model.add("tower/keypoints", "Identity", ["relu"], values["relu"])
    model.convolution("tower/wh", "end", weights(1, 1, 24, 4))
    return model

"""Int8 of a network inside a prepared model, calibrated on frames of the user's own."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto

from centernetd.errors import ModelError
from centernetd.model import contract
from centernetd.model.files import first_line
from centernetd.prepare.upstream import last_layer

Frames = Sequence[npt.NDArray[np.uint8]]  # input rows [H, W, 3], letterboxed as frames will be

_LAYERS = ["Conv", "ConvTranspose"]
_OWN_DOMAINS = ("", "ai.onnx")


def fold_layers(model: ModelProto, heads: Sequence[str]) -> list[str]:
    """Fold batch normalizations and other constants of a bare network into its layers, in place.

    A quantizer would else see a layer's weights without the scales that follow them. Returns the
    outputs of the layers that are to be quantized, all but the last before each of the outputs
    `heads`: 256 steps are too few for scores that are compared with their neighbours, and for
    sizes of up to 128 cells. Those layers are a small part of the work.

    Raises
    ------
    ModelError
        There is no layer that int8 would be for.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in folded.graph.node} | set(_OWN_DOMAINS)
    opsets = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(opsets)
    model.CopyFrom(folded)
    graph = model.graph
    last = {node.output[0] for head in heads for node in last_layer(graph, head)}
    found = [node.output[0] for node in graph.node if node.op_type in _LAYERS]
    if not set(found) - last:
        raise ModelError("it has no layer that int8 would be for: keep it in float32")
    return [name for name in found if name not in last]


def quantize(model: ModelProto, layers: Sequence[str], frames: Frames) -> None:
    """Quantize the `layers`, named by their outputs, of a prepared model in place.

    Weights are symmetric with a scale for each channel; activations are symmetric with the range
    that they had on `frames`; biases and all that is no such layer stay float32. TensorRT
    takes that, and little else.

    Raises
    ------
    ModelError
        The network can't be quantized.
    """
    # The quantizer's package takes long to import and isn't needed for anything else.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    for node in model.graph.node:  # the quantizer goes by names, which exports leave out
        node.name = node.output[0]
    props = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**props, "onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(model.SerializeToString())
        try:
            quantize_static(
                before,
                after,
                _Reader(frames),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_LAYERS,
                nodes_to_quantize=list(layers),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    # what leaves a layer is quantized where the next one reads it: behind ReLU
                    "OpTypesToExcludeOutputQuantization": _LAYERS,
                },
            )
        except Exception as error:  # it raises whatever onnx and ONNX Runtime do
            raise ModelError(
                f"it can't be quantized ({first_line(error)}): keep it in float32"
            ) from None
        model.CopyFrom(onnx.load(after))
    onnx.helper.set_model_props(model, props)


class _Reader:
    """Gives the quantizer one frame after another, as its `CalibrationDataReader` would."""

    def __init__(self, frames: Frames) -> None:
        self._frames: Iterator[npt.NDArray[np.uint8]] = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {contract.INPUT: frame[None]}

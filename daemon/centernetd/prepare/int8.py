"""Int8 quantization of the network in a prepared model, calibrated on the user's frames."""

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
from centernetd.prepare.graph import forget_unused_domains, last_layer

Frames = Sequence[npt.NDArray[np.uint8]]  # input rows [H, W, 3], letterboxed as at run time

_LAYERS = ["Conv", "ConvTranspose"]
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    # a layer's output is quantized where it is read, which is after ReLU
    "OpTypesToExcludeOutputQuantization": _LAYERS,
}


def fold_layers(model: ModelProto, heads: Sequence[str]) -> list[str]:
    """Fold batch normalizations and other constants of a bare network into its layers, in place.

    A quantizer would otherwise see a layer's weights without the scales applied after it. Returns
    the outputs of the layers to quantize: all but the last before each of the outputs `heads`. 256
    steps are too few for scores that are compared with their neighbours, and for sizes of up to
    128 cells. The excluded layers are a small part of the work.

    Raises
    ------
    ModelError
        No layer could be quantized.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath)
    forget_unused_domains(folded)
    model.CopyFrom(folded)
    graph = model.graph
    last = {node.output[0] for head in heads for node in last_layer(graph, head)}
    found = [node.output[0] for node in graph.node if node.op_type in _LAYERS]
    if not set(found) - last:
        raise ModelError("it has no layer to quantize: keep it in float32")
    return [name for name in found if name not in last]


def quantize(model: ModelProto, layers: Sequence[str], frames: Frames) -> None:
    """Quantize the `layers`, named by their outputs, of a prepared model in place.

    Weights are symmetric with a scale per channel; activations are symmetric with their range on
    `frames`; biases and everything outside these layers stay float32. TensorRT supports this,
    and little else.

    Raises
    ------
    ModelError
        The network can't be quantized.
    """
    # Slow to import, and needed only here.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    for node in model.graph.node:  # the quantizer identifies nodes by name, which exports omit
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
                extra_options=_OPTIONS,
            )
        except Exception as error:  # raises any exception of onnx and ONNX Runtime
            raise ModelError(
                f"it can't be quantized ({first_line(error)}): keep it in float32"
            ) from None
        model.CopyFrom(onnx.load(after))
    onnx.helper.set_model_props(model, props)


class _Reader:
    """Supplies frames to the quantizer, as a `CalibrationDataReader` does."""

    def __init__(self, frames: Frames) -> None:
        self._frames: Iterator[npt.NDArray[np.uint8]] = iter(frames)

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {contract.INPUT: frame[None]}

"""From a PyTorch network to ONNX."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor

from centernetd.prepare.clean import OPSET
from centernetd.prepare.export.fold import fold
from centernetd.prepare.export.layers import Network


def to_onnx(network: Network, size: tuple[int, int]) -> onnx.ModelProto:
    """Return `network` as an ONNX export for images [batch, 3, *size], with dynamic batch.

    Uses the tracing exporter rather than that of `torch.export`, which needs more packages than
    torch. `network` itself is changed: its batch normalizations are folded.
    """
    pictures = torch.zeros(2, 3, *size)
    fold(network, pictures)
    names = ["image", *network.outputs]
    with (
        tempfile.TemporaryDirectory(prefix="centernetd-") as folder,
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        path = Path(folder) / "network.onnx"
        # ignore its deprecation, and warnings about sizes becoming constants, which is intended
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (pictures,),
            str(path),
            export_params=False,  # it would hold four copies of them
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    _add_weights(model.graph, network.state_dict())
    return model


def _add_weights(graph: onnx.GraphProto, weights: Mapping[str, Tensor]) -> None:
    """Turn the inputs named like weights into initializers."""
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
        array = weights[value.name].numpy()
        graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))

"""From a PyTorch network to ONNX."""

import tempfile
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from centernetd.prepare.clean import OPSET
from centernetd.prepare.export.layers import DeformableConv, TorchNetwork

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, DeformableConv)


def to_onnx(network: TorchNetwork, size: tuple[int, int]) -> onnx.ModelProto:
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


def fold(network: nn.Module, pictures: Tensor) -> None:
    """Fold, in place, each batch normalization into the convolution that feeds it.

    The pairs are found by running `pictures` [batch, 3, height, width]; nothing else may use the
    convolution's result. Deformable convolutions are split into two layers. No weights are then
    left to compute, for which PyTorch's exporter would copy all of them.
    """
    names = {module: name for name, module in network.named_modules()}
    for convolution, norm in _pairs(network, pictures):
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
            transpose=isinstance(convolution, nn.ConvTranspose2d),
        )
        network.set_submodule(names[norm], nn.Identity())
    for name, layer in list(network.named_modules()):
        if isinstance(layer, DeformableConv):
            network.set_submodule(name, layer.split())


def _pairs(network: nn.Module, pictures: Tensor) -> list[tuple[nn.Module, nn.BatchNorm2d]]:
    """Run `network` and return each normalization with the convolution that feeds it."""
    pairs: list[tuple[nn.Module, nn.BatchNorm2d]] = []
    last: tuple[nn.Module, Tensor] | None = None

    def after(layer: nn.Module, _taken: object, given: Tensor) -> None:
        nonlocal last
        last = layer, given

    def before(layer: nn.BatchNorm2d, taken: tuple[Tensor]) -> None:
        if last is not None and last[1] is taken[0]:
            pairs.append((last[0], layer))

    with ExitStack() as hooks, torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, _CONVOLUTIONS):
                hooks.callback(layer.register_forward_hook(after).remove)
            elif isinstance(layer, nn.BatchNorm2d):
                hooks.callback(layer.register_forward_pre_hook(before).remove)
        network(pictures)
    return pairs


def _add_weights(graph: onnx.GraphProto, weights: Mapping[str, Tensor]) -> None:
    """Turn the inputs named like weights into initializers."""
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
        array = weights[value.name].numpy()
        graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))

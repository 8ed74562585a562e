"""Precomputing what is constant in a network before it is exported."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from centernetd.prepare.export.layers import DeformableConv

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, DeformableConv)


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
            network.set_submodule(name, layer.in_two())


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

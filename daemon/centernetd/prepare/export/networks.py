"""Creating a network by the name of its architecture."""

from collections.abc import Callable
from functools import partial

import torch

from centernetd.prepare.export.dla import Dla34
from centernetd.prepare.export.hourglass import HourglassNet
from centernetd.prepare.export.layers import Network
from centernetd.prepare.export.resnet import CenterNetResNet50, ResNet, doubled, sampled_and_doubled

_NETWORKS: dict[str, Callable[..., Network]] = {
    **{
        f"res_{depth}": partial(ResNet, depth, doubled, (256, 256, 256))
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"resdcn_{depth}": partial(ResNet, depth, sampled_and_doubled, (256, 128, 64))
        for depth in (18, 101)
    },
    "dla_34": Dla34,
    "hourglass": HourglassNet,
    "centernet_resnet50": CenterNetResNet50,
}


def make(name: str, outputs: dict[str, int], width: int) -> Network:
    """Return the network `name` with random weights, in evaluation mode.

    `outputs` are the channels of each output; `width` is that between the two layers of a head,
    0 for a head of one layer.
    """
    network = _NETWORKS[name](outputs=outputs, width=width)
    network.eval()
    return network


def outline(name: str, outputs: dict[str, int], width: int) -> Network:
    """Return the same network without memory for its weights."""
    with torch.device("meta"):
        return make(name, outputs, width)

"""Networks of random weights that behave as trained ones do: nothing explodes or dies away."""

import numpy as np
import torch
from torch import nn

from centernetd.prepare.export import dla, hourglass, resnet
from centernetd.prepare.export.architectures import ARCHITECTURES, CTDET, MULTI_POSE
from centernetd.prepare.export.checkpoint import make
from centernetd.prepare.export.layers import DeformableConv, TorchNetwork
from tests.exports import Pixels

JOINTS = 17
# mean and deviation of each output: boxes hold joints, scores lie around 0.1
_SPREAD = {
    "hm": (-2.0, 1.0),
    "wh": (8.0, 2.0),
    "reg": (0.5, 0.2),
    "hps": (0.0, 2.0),
    "hm_hp": (-2.0, 1.0),
    "hp_offset": (0.5, 0.2),
}
_LAST_OF_BLOCK: dict[type[nn.Module], str] = {
    resnet.BasicBlock: "bn2",
    resnet.Bottleneck: "bn3",
    resnet.PaperBottleneck: "bn3",
    dla.Block: "bn2",
    hourglass.Residual: "bn2",
}


def outputs(task: str, classes: int) -> dict[str, int]:
    """Return the channels of each output."""
    free = {"hm": classes, "hps": 2 * JOINTS, "hm_hp": JOINTS}
    return {name: free.get(name, 2) for name in (CTDET if task == "ctdet" else MULTI_POSE)}


def frames(count: int, size: tuple[int, int]) -> Pixels:
    """Return noise, coarse enough to give networks something to see."""
    coarse = np.random.default_rng(3).integers(0, 256, (count, size[0] // 8, size[1] // 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def calibrated(
    name: str, task: str, classes: int, pictures: Pixels, width: int = 64
) -> TorchNetwork:
    """Make a network of random weights whose normalisations know the statistics of `pictures`."""
    torch.manual_seed(classes)
    network = make(name, outputs(task, classes), width)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # plain averages
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.2)
        elif isinstance(layer, DeformableConv):
            nn.init.kaiming_normal_(layer.weight)
    for layer in network.modules():
        last = _LAST_OF_BLOCK.get(type(layer))
        if last:  # blocks add little each, or rounding would grow from one to the next
            nn.init.uniform_(layer.get_submodule(last).weight, 0.2, 0.3)
        if isinstance(layer, DeformableConv):  # reads pixels away, unlike before training
            nn.init.normal_(layer.conv_offset_mask.weight, 0, 0.005)
            nn.init.normal_(layer.conv_offset_mask.bias)
    with torch.no_grad():
        network.train()
        planes = torch.from_numpy((pictures / 255 - 0.45) / 0.28).permute(0, 3, 1, 2).float()
        network(planes)
        network.eval()
        maps = network(planes)
        for head, found in zip(network.outputs, maps, strict=True):
            _spread(_last_layer(network, name, head), found, *_SPREAD[head])
    return network


def _last_layer(network: TorchNetwork, name: str, head: str) -> nn.Conv2d:
    architecture = ARCHITECTURES[name]
    called = dict(architecture.heads).get(head, head)
    layer = network.get_submodule(architecture.last.format(called).removesuffix(".weight"))
    assert isinstance(layer, nn.Conv2d)
    return layer


def _spread(layer: nn.Conv2d, found: torch.Tensor, mean: float, deviation: float) -> None:
    assert layer.bias is not None
    scale = deviation / found.std()
    layer.weight.mul_(scale)
    layer.bias.sub_(found.mean()).mul_(scale).add_(mean)

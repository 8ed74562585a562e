"""Batch normalisations that become part of convolutions, and those that can't."""

import pytest
import torch
from torch import nn

from centernetd.prepare.export.layers import DeformableConv
from centernetd.prepare.export.trace import fold

PICTURES = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))


def normed(layer: nn.Module, channels: int) -> nn.Sequential:
    """Follow `layer` with a normalisation that changes every channel otherwise."""
    norm = nn.BatchNorm2d(channels)
    for values, low, high in (
        (norm.weight, 0.5, 2),
        (norm.bias, -1, 1),
        (norm.running_mean, -1, 1),
        (norm.running_var, 0.5, 2),
    ):
        nn.init.uniform_(values, low, high)
    return nn.Sequential(layer, norm).eval()


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 5, 3),
        nn.Conv2d(3, 5, 1, bias=False),
        nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1, bias=False),
        DeformableConv(3, 5),
    ],
)
def test_a_convolution_takes_the_normalisation_over(convolution: nn.Module) -> None:
    network = normed(convolution, 5)
    with torch.no_grad():
        before = network(PICTURES)
        fold(network, PICTURES[:1])
        torch.testing.assert_close(network(PICTURES), before, atol=1e-5, rtol=1e-5)
    assert isinstance(network[1], nn.Identity)


def test_what_follows_no_convolution_is_left() -> None:
    network = normed(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()), 5)
    with torch.no_grad():
        before = network(PICTURES)
        fold(network, PICTURES)
        assert torch.equal(network(PICTURES), before)
    assert isinstance(network[1], nn.BatchNorm2d)

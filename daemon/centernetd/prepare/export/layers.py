"""Building blocks shared by the networks.

Here and in the networks, attribute names are those of the published checkpoints, since they
determine the keys of the weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from centernetd.prepare.deform import Window, sampling_positions


class TorchNetwork(nn.Module):
    """A network that returns one map for each name in `outputs`, in that order."""

    def __init__(self, outputs: dict[str, int]) -> None:
        super().__init__()
        self.outputs = tuple(outputs)


class Taps(nn.Module):
    """Samples the input at the nine taps of a deformable 3x3 convolution, by `grid_sample`.

    The stride is 1. A plain convolution predicts an offset (y, x) and the logit of a modulation per
    tap, all offsets first. See `centernetd.prepare.deform` for the computation.
    """

    WINDOW = Window(taps=(3, 3), pads=(1, 1))

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv_offset_mask = nn.Conv2d(inputs, 27, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, inputs, rows, columns] to [batch, inputs * 9, rows, columns]."""
        inputs, rows, columns = (int(length) for length in image.shape[1:])
        offset, modulation = self.conv_offset_mask(image).split([18, 9], dim=1)
        scale, of_taps, of_cells = map(
            torch.from_numpy, sampling_positions(self.WINDOW, (rows, columns), (rows, columns))
        )
        moved = offset.reshape(-1, 9, 2, rows, columns)
        moved = torch.stack([moved[:, :, 1], moved[:, :, 0]], dim=-1)
        grid = (moved * scale + of_taps + of_cells).reshape(-1, 9 * rows, columns, 2)
        found = functional.grid_sample(image, grid, align_corners=False)
        found = found * modulation.sigmoid().reshape(-1, 1, 9 * rows, columns)
        return found.reshape(-1, inputs * 9, rows, columns)


class DeformableConv(Taps):
    """Modulated deformable 3x3 convolution of stride 1: a weighted sum of its taps' samples."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, inputs, rows, columns] to [batch, outputs, rows, columns]."""
        return functional.conv2d(super().forward(image), self._summing_weight(), self.bias)

    def split(self) -> nn.Sequential:
        """Return an equivalent pair of layers, the second a plain convolution."""
        outputs, inputs, *_ = self.weight.shape
        taps, total = Taps(inputs), nn.Conv2d(inputs * 9, outputs, 1)
        taps.conv_offset_mask = self.conv_offset_mask
        total.weight, total.bias = nn.Parameter(self._summing_weight()), self.bias
        return nn.Sequential(taps, total)

    def _summing_weight(self) -> Tensor:
        return self.weight.reshape(len(self.weight), -1, 1, 1)


class TwoConvolutions(nn.Module):
    """Two 3x3 convolutions whose result gets an addend."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def add(self, image: Tensor, addend: Tensor) -> Tensor:
        """Convolve `image` and add `addend`, which has the size and channels of the result."""
        found = functional.relu(self.bn1(self.conv1(image)))
        return functional.relu(self.bn2(self.conv2(found)) + addend)


def head(inputs: int, width: int, outputs: int) -> nn.Module:
    """Return the layers of an output head: `width` channels between two, or one layer for 0."""
    if width == 0:
        return nn.Conv2d(inputs, outputs, 1)
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, outputs, 1)
    )


def normed(convolution: nn.Module, channels: int) -> list[nn.Module]:
    """Return `convolution` followed by batch normalization and ReLU."""
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU()]


def shortcut(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return the 1x1 convolution that matches a residual block's input to its output."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

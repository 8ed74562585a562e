"""Hourglass-104: `hourglass`.

After "Stacked Hourglass Networks" (Newell et al., 2016) in the form of "CornerNet" (Law and Deng,
2018, section 3.6); keys and widths as in xingyizhou/CenterNet.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from centernetd.prepare.export.layers import TorchNetwork, TwoConvolutions, shortcut

WIDTHS = (256, 256, 384, 384, 384, 512)  # channels at each size, the largest first
COUNTS = (2, 2, 2, 2, 2, 4)  # consecutive residual blocks at each size
STACKS = 2


class Convolution(nn.Module):
    """A convolution with normalization or bias, and ReLU."""

    def __init__(
        self, taps: int, inputs: int, outputs: int, stride: int = 1, *, normalised: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, taps, stride, padding=taps // 2, bias=not normalised)
        self.bn = nn.BatchNorm2d(outputs) if normalised else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Halve the size if the stride is 2."""
        return functional.relu(self.bn(self.conv(image)))


class Residual(TwoConvolutions):
    """Two 3x3 convolutions in parallel with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, stride)
        fits = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if fits else shortcut(inputs, outputs, stride)

    def forward(self, image: Tensor) -> Tensor:
        """Halve the size if the stride is 2."""
        return self.add(image, self.skip(image))


def row(count: int, inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return residual blocks, the first of which changes channels and size."""
    rest = [Residual(outputs, outputs) for _ in range(count - 1)]
    return nn.Sequential(Residual(inputs, outputs, stride), *rest)


def row_changing_last(count: int, inputs: int, outputs: int) -> nn.Sequential:
    """Return residual blocks, the last of which changes the channels."""
    rest = [Residual(inputs, inputs) for _ in range(count - 1)]
    return nn.Sequential(*rest, Residual(inputs, outputs))


class Hourglass(nn.Module):
    """Downsamples by two, applies a smaller hourglass, and upsamples again."""

    def __init__(self, widths: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__()
        (width, inner), (count, below) = widths[:2], counts[:2]
        self.up1 = row(count, width, width)
        self.low1 = row(count, width, inner, stride=2)
        self.low2 = (
            Hourglass(widths[1:], counts[1:]) if len(widths) > 2 else row(below, inner, inner)
        )
        self.low3 = row_changing_last(count, inner, width)

    def forward(self, image: Tensor) -> Tensor:
        """Keep channels and size; the size must be divisible by two at every level."""
        found = self.low3(self.low2(self.low1(image)))
        return self.up1(image) + functional.interpolate(found, scale_factor=2.0)


class HourglassNet(TorchNetwork):
    """Two hourglasses in sequence; the outputs are the heads of the second."""

    def __init__(self, outputs: dict[str, int], width: int) -> None:
        super().__init__(outputs)
        inner = WIDTHS[0]
        self.pre = nn.Sequential(Convolution(7, 3, 128, 2), Residual(128, inner, 2))
        self.kps = nn.ModuleList(Hourglass(WIDTHS, COUNTS) for _ in range(STACKS))
        self.cnvs = nn.ModuleList(Convolution(3, inner, inner) for _ in range(STACKS))
        between = range(STACKS - 1)
        self.inters = nn.ModuleList(Residual(inner, inner) for _ in between)
        self.inters_ = nn.ModuleList(shortcut(inner, inner) for _ in between)
        self.cnvs_ = nn.ModuleList(shortcut(inner, inner) for _ in between)
        for name, count in outputs.items():
            # checkpoints contain heads for every stack; only those of the last are used
            self.add_module(name, nn.ModuleList(self._head(width, count) for _ in range(STACKS)))

    @staticmethod
    def _head(width: int, count: int) -> nn.Sequential:
        return nn.Sequential(
            Convolution(3, WIDTHS[0], width, normalised=False), nn.Conv2d(width, count, 1)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at a quarter of the size of `image`."""
        fed = self.pre(image)
        for stack in range(STACKS - 1):
            found = self.cnvs[stack](self.kps[stack](fed))
            fed = functional.relu(self.inters_[stack](fed) + self.cnvs_[stack](found))
            fed = self.inters[stack](fed)
        found = self.cnvs[-1](self.kps[-1](fed))
        return tuple(self.get_submodule(f"{name}.{STACKS - 1}")(found) for name in self.outputs)

"""DLA-34 with deformable upsampling: `dla_34`.

Trees after "Deep Layer Aggregation" (Yu et al., 2018), with the deformable upsampling of
"Objects as Points" (Zhou et al., 2019, section 5); keys and widths as in xingyizhou/CenterNet.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from centernetd.prepare.export.layers import (
    DeformableConv,
    TorchNetwork,
    TwoConvolutions,
    head,
    normed,
    shortcut,
)

CHANNELS = (16, 32, 64, 128, 256, 512)  # for the six levels, each half the size of the previous one


class Block(TwoConvolutions):
    """Two 3x3 convolutions with an addend that comes from the tree."""

    def forward(self, image: Tensor, addend: Tensor) -> Tensor:
        """Add `addend`, which has the size and channels of the result."""
        return self.add(image, addend)


class Root(nn.Module):
    """Aggregates the ends of a tree by a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, ends: Sequence[Tensor]) -> Tensor:
        """Concatenate all ends and convolve them."""
        return functional.relu(self.bn(self.conv(torch.cat(tuple(ends), dim=1))))


class Tree(nn.Module):
    """Two subtrees, or at depth 1 two blocks and their root.

    `handed` is the number of channels from above that the root aggregates as well; with
    `keeps_input`, it also aggregates the input, at the size of the result.
    """

    def __init__(
        self,
        depth: int,
        inputs: int,
        outputs: int,
        stride: int = 1,
        *,
        keeps_input: bool = False,
        handed: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.keeps_input = stride, keeps_input
        handed += inputs if keeps_input else 0
        # published deeper trees contain this too, although only those of depth 1 use it
        self.project = shortcut(inputs, outputs) if inputs != outputs else None
        self.root: Root | None = None
        if depth == 1:
            self.tree1: nn.Module = Block(inputs, outputs, stride)
            self.tree2: nn.Module = Block(outputs, outputs)
            self.root = Root(2 * outputs + handed, outputs)
        else:
            self.tree1 = Tree(depth - 1, inputs, outputs, stride)
            self.tree2 = Tree(depth - 1, outputs, outputs, handed=handed + outputs)

    def forward(self, image: Tensor, handed: tuple[Tensor, ...] = ()) -> Tensor:
        """Return `outputs` channels, at the size of `image` divided by the stride."""
        small = functional.max_pool2d(image, self.stride) if self.stride > 1 else image
        if self.keeps_input:
            handed = (*handed, small)
        if self.root is None:
            first: Tensor = self.tree1(image)
            deeper: Tensor = self.tree2(first, (*handed, first))
            return deeper
        first = self.tree1(image, small if self.project is None else self.project(small))
        return self.root((self.tree2(first, first), first, *handed))


class Base(nn.Module):
    """The six levels of DLA-34."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Sequential(
            *normed(nn.Conv2d(3, CHANNELS[0], 7, padding=3, bias=False), CHANNELS[0])
        )
        self.level0 = self._convolution(CHANNELS[0], CHANNELS[0], 1)
        self.level1 = self._convolution(CHANNELS[0], CHANNELS[1], 2)
        self.level2 = Tree(1, CHANNELS[1], CHANNELS[2], 2)
        self.level3 = Tree(2, CHANNELS[2], CHANNELS[3], 2, keeps_input=True)
        self.level4 = Tree(2, CHANNELS[3], CHANNELS[4], 2, keeps_input=True)
        self.level5 = Tree(1, CHANNELS[4], CHANNELS[5], 2, keeps_input=True)

    @staticmethod
    def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            *normed(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), outputs)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the six levels, the largest first."""
        found, levels = self.base_layer(image), []
        for index in range(len(CHANNELS)):
            found = self.get_submodule(f"level{index}")(found)
            levels.append(found)
        return levels


class Sampled(nn.Module):
    """A deformable convolution with its normalization."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = DeformableConv(inputs, outputs)
        self.actf = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        """Return a map of the same size."""
        found: Tensor = self.actf(self.conv(image))
        return found


class Aggregation(nn.Module):
    """Scales each map to the size of the first, and adds it to the sum of the previous ones.

    `channels` are those of the maps; `factors` are their downscaling relative to the first.
    """

    def __init__(self, outputs: int, channels: Sequence[int], factors: Sequence[int]) -> None:
        super().__init__()
        for index, (inputs, factor) in enumerate(zip(channels, factors, strict=True)):
            if index == 0:
                continue
            enlarge = nn.ConvTranspose2d(
                outputs, outputs, 2 * factor, factor, factor // 2, groups=outputs, bias=False
            )
            self.add_module(f"proj_{index}", Sampled(inputs, outputs))
            self.add_module(f"up_{index}", enlarge)
            self.add_module(f"node_{index}", Sampled(outputs, outputs))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return as many maps as given; the first is unchanged, the last aggregates all."""
        found = [maps[0]]
        for index, image in enumerate(maps[1:], start=1):
            project, enlarge, join = (
                self.get_submodule(f"{part}_{index}") for part in ("proj", "up", "node")
            )
            found.append(join(enlarge(project(image)) + found[-1]))
        return found


class Upsampling(nn.Module):
    """Aggregates the last two maps, then the last three, and so on."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        inputs, factors = list(channels), [2**index for index in range(len(channels))]
        for step in range(len(channels) - 1):
            first = len(channels) - 2 - step
            relative = [factor // factors[first] for factor in factors[first:]]
            width, rest = channels[first], len(channels) - first - 1
            self.add_module(f"ida_{step}", Aggregation(width, inputs[first:], relative))
            inputs[first + 1 :] = [width] * rest
            factors[first + 1 :] = [factors[first]] * rest

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return one map at each size, the largest first."""
        maps = list(maps)
        found = [maps[-1]]
        for step in range(len(maps) - 1):
            first = len(maps) - 2 - step
            maps[first:] = self.get_submodule(f"ida_{step}")(maps[first:])
            found.insert(0, maps[-1])
        return found


class Dla34(TorchNetwork):
    """`dla_34`; it uses the levels from a quarter of the input's size on."""

    FIRST, LAST = 2, 5

    def __init__(self, outputs: dict[str, int], width: int) -> None:
        super().__init__(outputs)
        count, channels = self.LAST - self.FIRST, CHANNELS[self.FIRST :]
        self.base = Base()
        self.dla_up = Upsampling(channels)
        self.ida_up = Aggregation(
            channels[0], channels[:count], [2**index for index in range(count)]
        )
        for name, of_head in outputs.items():
            self.add_module(name, head(channels[0], width, of_head))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at a quarter of the size of `image`."""
        maps = self.dla_up(self.base(image)[self.FIRST :])
        found = self.ida_up(maps[: self.LAST - self.FIRST])[-1]
        return tuple(self.get_submodule(name)(found) for name in self.outputs)

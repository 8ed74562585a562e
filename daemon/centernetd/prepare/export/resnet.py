"""ResNet with an upsampling stage: `res_*`, `resdcn_*` and `centernet_resnet50`.

Blocks after "Deep Residual Learning" (He et al., 2015), upsampling after "Simple Baselines for
Human Pose Estimation" (Xiao et al., 2018) and "Objects as Points" (Zhou et al., 2019, section
5); keys and widths as in xingyizhou/CenterNet and bubbliiiing/centernet-pytorch.
"""

from collections.abc import Callable, Sequence

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


class BasicBlock(TwoConvolutions):
    """Two 3x3 convolutions in parallel with a shortcut."""

    EXPANSION = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        fits = stride == 1 and inputs == width
        self.downsample = None if fits else shortcut(inputs, width, stride)

    def forward(self, image: Tensor) -> Tensor:
        """Halve the size if the stride is 2."""
        return self.add(image, image if self.downsample is None else self.downsample(image))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1, in parallel with a shortcut.

    The stride is on the 3x3 convolution, as in torchvision, or on the first one, as in the paper.
    """

    EXPANSION = 4
    STRIDE_FIRST = False

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.EXPANSION
        first, second = (stride, 1) if self.STRIDE_FIRST else (1, stride)
        self.conv1 = nn.Conv2d(inputs, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        fits = stride == 1 and inputs == outputs
        self.downsample = None if fits else shortcut(inputs, outputs, stride)

    def forward(self, image: Tensor) -> Tensor:
        """Halve the size if the stride is 2."""
        addend = image if self.downsample is None else self.downsample(image)
        found = functional.relu(self.bn1(self.conv1(image)))
        found = functional.relu(self.bn2(self.conv2(found)))
        return functional.relu(self.bn3(self.conv3(found)) + addend)


class PaperBottleneck(Bottleneck):
    """A bottleneck that halves the size at its first convolution."""

    STRIDE_FIRST = True


Block = type[BasicBlock] | type[Bottleneck]

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def stages(block: Block, counts: Sequence[int]) -> tuple[list[nn.Sequential], int]:
    """Return the four stages after the stem, and their output channels."""
    made, inputs = [], 64
    for index, count in enumerate(counts):
        width = 64 * 2**index
        blocks = [block(inputs, width, 1 if index == 0 else 2)]
        inputs = width * block.EXPANSION
        blocks += [block(inputs, width, 1) for _ in range(count - 1)]
        made.append(nn.Sequential(*blocks))
    return made, inputs


def doubled(inputs: int, outputs: int) -> list[nn.Module]:
    """Double the size by a transposed convolution."""
    deconvolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return normed(deconvolution, outputs)


def sampled_and_doubled(inputs: int, outputs: int) -> list[nn.Module]:
    """Double the size after a deformable convolution."""
    return [*normed(DeformableConv(inputs, outputs), outputs), *doubled(outputs, outputs)]


Step = Callable[[int, int], list[nn.Module]]


def upsampling(step: Step, inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Return a sequence of `step`s with `inputs`, then `widths` channels."""
    pairs = zip((inputs, *widths), widths, strict=False)
    return nn.Sequential(*(layer for pair in pairs for layer in step(*pair)))


class ResNet(TorchNetwork):
    """`res_*` with `doubled` steps of 256 channels; `resdcn_*` with sampled ones of 256 to 64."""

    def __init__(
        self, depth: int, step: Step, widths: Sequence[int], outputs: dict[str, int], width: int
    ) -> None:
        super().__init__(outputs)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        (self.layer1, self.layer2, self.layer3, self.layer4), channels = stages(*DEPTHS[depth])
        self.deconv_layers = upsampling(step, channels, widths)
        for name, count in outputs.items():
            self.add_module(name, head(widths[-1], width, count))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at a quarter of the size of `image`."""
        found = functional.relu(self.bn1(self.conv1(image)))
        found = functional.max_pool2d(found, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            found = stage(found)
        found = self.deconv_layers(found)
        return tuple(self.get_submodule(name)(found) for name in self.outputs)


class CenterNetResNet50(TorchNetwork):
    """`centernet_resnet50`: other stem, strides and heads; the backbone is one sequence.

    Its max-pool has no padding and includes partial windows at the far edges.
    """

    HEADS = {"hm": "cls_head", "wh": "wh_head", "reg": "reg_head"}  # noqa: RUF012

    def __init__(self, outputs: dict[str, int], width: int) -> None:
        super().__init__(outputs)
        made, channels = stages(PaperBottleneck, DEPTHS[50][1])
        stem = normed(nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), 64)
        self.backbone = nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, ceil_mode=True), *made)
        self.decoder = nn.ModuleDict(
            {"deconv_layers": upsampling(doubled, channels, (256, 128, 64))}
        )
        self.head = nn.ModuleDict(
            {
                self.HEADS[name]: nn.Sequential(
                    *normed(nn.Conv2d(64, width, 3, padding=1, bias=False), width),
                    nn.Conv2d(width, count, 1),
                )
                for name, count in outputs.items()
            }
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at a quarter of the size of `image`."""
        found = self.decoder["deconv_layers"](self.backbone(image))
        return tuple(self.head[self.HEADS[name]](found) for name in self.outputs)

"""A CenterNet in PyTorch, with random weights: what the double of TensorRT runs on a GPU.

ResNet-18, three deconvolutions, 20 classes. Batch normalisation is left out, since TensorRT folds
it into the convolutions: with it the network would be slower than a plan of it, and a pipeline
would look better next to it than it is.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 20
TOP_K = 100
STRIDE = 4
_MEAN, _STD = (0.408, 0.447, 0.470), (0.289, 0.274, 0.278)


def _conv(inwards: int, outwards: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inwards, outwards, size, stride, size // 2)


class Block(nn.Module):  # type: ignore[misc]
    """Two convolutions next to a shortcut."""

    def __init__(self, inwards: int, outwards: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inwards, outwards, 3, stride)
        self.second = _conv(outwards, outwards)
        same = stride == 1 and inwards == outwards
        self.shortcut = nn.Identity() if same else _conv(inwards, outwards, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(functional.relu(self.first(x)))
        return functional.relu(inner + self.shortcut(x))


class CenterNet(nn.Module):  # type: ignore[misc]
    """The bare network: normalised pixels [B, 3, H, W] to heatmap logits, sizes and offsets."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 64, 128, 256, 512)
        stages: list[nn.Module] = [_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for n, (inwards, outwards) in enumerate(pairwise(widths)):
            stages += [Block(inwards, outwards, 1 if n == 0 else 2), Block(outwards, outwards, 1)]
        for inwards in (512, 256, 256):
            stages += [nn.ConvTranspose2d(inwards, 256, 4, 2, 1), nn.ReLU()]
        self.body = nn.Sequential(*stages)
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(256, 64), nn.ReLU(), _conv(64, channels, 1))
            for channels in (CLASSES, 2, 2)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        features = self.body(pixels)
        return [head(features) for head in self.heads]


class Prepared(nn.Module):  # type: ignore[misc]
    """A prepared model: uint8 [B, H, W, 3] to detections [B, K, 6], decoded in float32."""

    def __init__(self, network: CenterNet) -> None:
        super().__init__()
        self.network = network
        dtype = next(network.parameters()).dtype
        for name, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(name, torch.tensor(values, dtype=dtype).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        pixels = frames.permute(0, 3, 1, 2).to(self.mean.dtype)  # channels-last as it is
        heat, size, offset = self.network((pixels / 255 - self.mean) / self.std)
        return decode(heat.float().sigmoid(), size.float(), offset.float())


def decode(heat: Tensor, size: Tensor, offset: Tensor) -> Tensor:
    """CenterNet's decode: peaks, the best of each class, the best of all."""
    batch, _, _, width = heat.shape
    heat = heat * (functional.max_pool2d(heat, 3, 1, 1) == heat)
    scores, cells = heat.flatten(2).topk(TOP_K)
    scores, chosen = scores.flatten(1).topk(TOP_K)
    cells = cells.flatten(1).gather(1, chosen)

    def pick(head: Tensor) -> Tensor:
        return head.flatten(2).gather(2, cells[:, None].expand(batch, 2, TOP_K)).transpose(1, 2)

    centre = torch.stack([cells % width, cells // width], 2) + pick(offset)
    half = pick(size) / 2
    boxes = torch.cat([centre - half, centre + half], 2) * STRIDE
    label = (chosen // TOP_K).float()
    return torch.cat([boxes, scores[..., None], label[..., None]], 2)


def make(dtype: torch.dtype = torch.float16) -> Prepared:
    """Return the prepared model on the GPU, the same weights every time."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    network = CenterNet().to(dtype=dtype, memory_format=torch.channels_last)
    prepared: Prepared = Prepared(network).cuda().eval()
    return prepared

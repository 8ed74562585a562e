"""What the authors' own networks give, recorded, and the weights and pictures they were given.

`scripts/record_networks.py` makes the record, from checkouts of their repositories.
"""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

RECORD = Path(__file__).parents[1] / "data" / "networks.npz"
Array = npt.NDArray[np.float32]

CLASSES = {"ctdet": 3, "multi_pose": 1}
WIDTHS = {"dla_34": 256, "hourglass": 256}  # of the published checkpoints; 64 of the others
SIZES = {"hourglass": (128, 256)}  # the smallest that it takes, and no square
_SIZE = (64, 96)
_VALUES = 48  # of each output


def picture(name: str) -> torch.Tensor:
    """Return what the network `name` is shown, [1, 3, H, W]."""
    size = SIZES.get(name, _SIZE)
    return torch.from_numpy(_noise("picture", (1, 3, *size)))


def weights(shapes: Mapping[str, Iterable[int]]) -> dict[str, torch.Tensor]:
    """Make weights that depend on their keys and shapes alone, by key."""
    return {key: torch.from_numpy(_weights(key, tuple(shape))) for key, shape in shapes.items()}


def sample(found: torch.Tensor) -> Array:
    """Take some values of an output, from all over it."""
    flat = found.detach().numpy().ravel()
    values: Array = flat[np.linspace(0, len(flat) - 1, _VALUES).astype(int)]
    return values


def _weights(key: str, shape: tuple[int, ...]) -> Array | npt.NDArray[np.int64]:
    """Keep values about as large from layer to layer; blocks add little each to what they get."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = _noise(key, shape)
    if key.endswith("running_var"):
        return np.float32(1) + np.float32(0.1) * np.abs(noise)
    if key.endswith("conv_offset_mask.bias"):  # of deformable convolutions: they read pixels away
        return noise
    if len(shape) < 2:
        usual = 0.5 if key.endswith(("bn2.weight", "bn3.weight")) else 1.0
        return np.float32(0.1) * noise + np.float32(usual if key.endswith("weight") else 0)
    scale = np.sqrt(2 / np.prod(shape[1:])) * (0.3 if "conv_offset_mask" in key else 1)
    return noise * np.float32(scale)


def _noise(key: str, shape: tuple[int, ...]) -> Array:
    """Return normal noise of a generator whose numbers NumPy promises never to change."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    return random.standard_normal(shape).astype(np.float32)

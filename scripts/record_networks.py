"""Record what the authors' own networks give, for tests/export/test_networks.py.

    python -m scripts.record_networks CENTERNET CENTERNET_PYTORCH [--check]

The arguments are checkouts of xingyizhou/CenterNet and bubbliiiing/centernet-pytorch
at the commits that docs/models.md names. Their DCNv2, which is an extension in C, is replaced by
torchvision's deform_conv2d. With ``--check``, nothing is written and the record is compared.
Needs torch and torchvision.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.ops import deform_conv2d

from tests.export.networks import outputs
from tests.export.recorded import CLASSES, RECORD, WIDTHS, Array, picture, sample, weights

CASES = [(f"res_{depth}", "ctdet") for depth in (18, 34, 50, 101, 152)]
CASES += [("res_50", "multi_pose"), ("resdcn_18", "ctdet"), ("resdcn_101", "ctdet")]
CASES += [(name, task) for name in ("dla_34", "hourglass") for task in ("ctdet", "multi_pose")]


class DCN(nn.Module):
    """Replaces DCNv2's layer, always 3x3 there, with the same keys and results."""

    def __init__(self, inputs: int, outputs: int, **_: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.conv_offset_mask = nn.Conv2d(inputs, 27, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Use the first two thirds of the inner convolution's result as offsets."""
        found = self.conv_offset_mask(image)
        offset, mask = found[:, :18], found[:, 18:].sigmoid()
        return deform_conv2d(image, offset, self.weight, self.bias, padding=1, mask=mask)


def import_centernet(checkout: Path) -> None:
    """Make the package ``networks`` of xingyizhou/CenterNet importable."""
    replacement = ModuleType("networks.DCNv2.dcn_v2")
    replacement.DCN = DCN  # type: ignore[attr-defined]
    sys.modules[replacement.__name__] = replacement
    sys.path.insert(0, str(checkout / "src" / "lib" / "models"))


def make_centernet(name: str, heads: dict[str, int]) -> nn.Module:
    """Return one of xingyizhou/CenterNet's networks, without downloading weights."""
    width = WIDTHS.get(name, 64)
    if name == "dla_34":
        module: Any = import_module("networks.pose_dla_dcn")
        options = {"down_ratio": 4, "final_kernel": 1, "last_level": 5, "head_conv": width}
        return module.DLASeg("dla34", heads, pretrained=False, **options)
    if name == "hourglass":
        return import_module("networks.large_hourglass").HourglassNet(heads, 2)
    kind, _, depth = name.partition("_")
    module = import_module(f"networks.{'resnet_dcn' if kind == 'resdcn' else 'msra_resnet'}")
    return module.PoseResNet(*module.resnet_spec[int(depth)], heads, head_conv=width)


def run(network: nn.Module, name: str) -> Any:  # noqa: ANN401
    """Load the network's weights, run it on the test image and return its outputs."""
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(weights(shapes))
    network.eval()
    with torch.no_grad():
        return network(picture(name))


def record(centernet: Path, centernet_pytorch: Path) -> dict[str, Array]:
    """Return the values of every output, named ``author/architecture/task/output``."""
    values: dict[str, Array] = {}
    import_centernet(centernet)
    for name, task in CASES:
        heads = outputs(task, CLASSES[task])
        maps = run(make_centernet(name, heads), name)[-1]  # of the last stack
        values |= {f"xingyizhou/{name}/{task}/{head}": sample(maps[head]) for head in heads}
    sys.path.insert(0, str(centernet_pytorch))
    heads, module = outputs("ctdet", CLASSES["ctdet"]), import_module("nets.centernet")
    maps = run(module.CenterNet_Resnet50(CLASSES["ctdet"]), "centernet_resnet50")
    prefix = "bubbliiiing/centernet_resnet50/ctdet"
    values |= {f"{prefix}/{head}": sample(found) for head, found in zip(heads, maps, strict=True)}
    maps = run(module.CenterNet_HourglassNet(heads), "hourglass")[-1]
    return values | {f"bubbliiiing/hourglass/ctdet/{head}": sample(maps[head]) for head in heads}


def main(arguments: list[str]) -> None:
    """Write the record, or compare it."""
    check = "--check" in arguments
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    if len(folders) != 2:
        sys.exit(__doc__)
    values = record(*folders)
    for key, found in values.items():
        print(f"{key}: {found.mean():.3f} +- {found.std():.3f}")
    if not check:
        np.savez_compressed(RECORD, allow_pickle=False, **values)
        return
    with np.load(RECORD) as recorded:
        assert set(recorded) == set(values)  # noqa: S101
        apart = max(
            float(np.abs(recorded[key] - values[key]).max() / recorded[key].std()) for key in values
        )
    print(f"largest difference from the record, as a share of an output's spread: {apart:.2g}")
    sys.exit(apart > 1e-4)


if __name__ == "__main__":
    main(sys.argv[1:])

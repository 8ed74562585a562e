"""Record results of torchvision's deform_conv2d as a reference for tests/test_deform.py.

    python -m scripts.record_deform_conv [--check]

With ``--check``, nothing is written and the recorded arrays are compared with torchvision's.
Needs torch and torchvision.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import deform_conv2d

RECORD = Path(__file__).parents[1] / "tests" / "data" / "deform_conv.npz"
Array = npt.NDArray[np.generic]

CHANNELS, KERNELS, SIZE = 8, 12, (9, 11)

# taps, strides, pads, dilations, groups, offset groups, modulated, biased
CASES = {
    "as CenterNet has it": ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1, True, True),
    "strides and dilations": ((3, 3), (2, 1), (1, 2), (1, 2), 1, 1, True, False),
    "groups": ((3, 3), (2, 2), (2, 2), (2, 2), 4, 1, False, True),
    "offset groups": ((3, 3), (1, 1), (0, 1), (1, 1), 1, 4, True, True),
    "both, and a long kernel": ((1, 5), (1, 2), (1, 0), (1, 1), 2, 2, True, False),
}


def record() -> dict[str, Array]:
    """Return the arrays of every case, named ``case/array``."""
    random = np.random.default_rng(11)
    arrays: dict[str, Array] = {}
    for name, (taps, strides, pads, dilations, groups, sets, modulated, biased) in CASES.items():
        rows, columns = (
            (length + 2 * pad - dilation * (count - 1) - 1) // stride + 1
            for length, pad, dilation, count, stride in zip(
                SIZE, pads, dilations, taps, strides, strict=True
            )
        )
        count = taps[0] * taps[1]
        fan_in = CHANNELS // groups * count
        case = {
            "source": random.normal(size=(2, CHANNELS, *SIZE)),
            "offset": random.normal(0, 3, (2, sets * count * 2, rows, columns)),
            "kernel": random.normal(0, fan_in**-0.5, (KERNELS, CHANNELS // groups, *taps)),
        }
        if modulated:
            case["mask"] = random.uniform(size=(2, sets * count, rows, columns))
        if biased:
            case["bias"] = random.normal(size=KERNELS)
        case = {key: value.astype(np.float32) for key, value in case.items()}
        given = {key: torch.from_numpy(value) for key, value in case.items()}
        result = deform_conv2d(
            given["source"],
            given["offset"],
            given["kernel"],
            given.get("bias"),
            strides,
            pads,
            dilations,
            given.get("mask"),
        )
        case["result"] = result.numpy()
        case["attributes"] = np.array([*strides, *pads, *dilations, groups, sets])
        arrays |= {f"{name}/{key}": value for key, value in case.items()}
    return arrays


def main() -> None:
    """Write the record, or compare it."""
    arrays = record()
    if "--check" not in sys.argv:
        RECORD.parent.mkdir(exist_ok=True)
        np.savez_compressed(RECORD, allow_pickle=False, **arrays)
        return
    with np.load(RECORD) as recorded:
        assert set(recorded) == set(arrays)  # noqa: S101
        apart = max(float(np.abs(recorded[key] - arrays[key]).max()) for key in arrays)
    print(f"largest difference from torchvision: {apart:.2g}")
    sys.exit(apart > 1e-5)


if __name__ == "__main__":
    main()

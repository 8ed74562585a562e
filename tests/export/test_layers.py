"""The deformable convolution in PyTorch against torchvision's, recorded."""

from pathlib import Path

import numpy as np
import torch

from centernetd.prepare.export.layers import DeformableConv

RECORD = Path(__file__).parents[1] / "data" / "deform_conv.npz"


def test_it_equals_torchvision() -> None:
    with np.load(RECORD) as arrays:
        case = {
            key.partition("/")[2]: torch.from_numpy(arrays[key])
            for key in arrays
            if key.startswith("as CenterNet has it/")
        }
    outputs, inputs, *_ = case["kernel"].shape
    layer = DeformableConv(inputs, outputs)
    found = torch.cat([case["offset"], torch.logit(case["mask"])], dim=1)
    layer.conv_offset_mask.register_forward_hook(lambda *_: found)
    with torch.no_grad():
        layer.weight.copy_(case["kernel"])
        layer.bias.copy_(case["bias"])
        torch.testing.assert_close(layer(case["source"]), case["result"], atol=1e-4, rtol=0)

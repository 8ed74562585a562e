"""From a PyTorch checkpoint to a prepared model.

The networks are reimplementations of those that CenterNet's authors and others published
checkpoints of. Only modules of this package import torch, and only once `export` is called.
"""

import dataclasses
from pathlib import Path

from centernetd.errors import ModelError, StartupError
from centernetd.model import contract, files
from centernetd.model.manifest import Manifest
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.int8 import Frames
from centernetd.prepare.prepare import PrepareOptions, prepare_model

_DEFAULT_SIZE = (512, 512)


def export(
    arch: str, weights: Path, output: Path, options: PrepareOptions, frames: Frames = ()
) -> Manifest:
    """Write the prepared model of the checkpoint `weights` and return its manifest.

    `arch` is a key of `ARCHITECTURES`, which provides defaults for missing `options`. For int8,
    `frames` are used for calibration.

    Raises
    ------
    ModelError
        `weights` is rejected; the message names it and the reason.
    StartupError
        PyTorch is not installed, or `output` can't be written.
    """
    try:
        from centernetd.prepare.export import checkpoint, trace
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise StartupError(
            "export needs PyTorch: install it with `pip install 'centernetd[export]'`"
        ) from None
    size = contract.limited(options.input_size or _DEFAULT_SIZE)
    divisor = ARCHITECTURES[arch].divisor
    if any(length % divisor for length in size):
        raise ModelError(
            f"an input size of {size[0]}x{size[1]} doesn't fit {arch}: "
            f"both must be divisible by {divisor}"
        )
    with files.naming(weights):
        network, digest = checkpoint.load(weights, arch)
        layout = "multi_pose" if "hps" in network.outputs else "ctdet"
        options = dataclasses.replace(
            _over(options, ARCHITECTURES[arch].usual), layout=layout, input_size=size
        )
        model = trace.to_onnx(network, size)
        del network  # as large as the model
        return prepare_model(model, digest, output, options, frames)


def _over(options: PrepareOptions, usual: PrepareOptions) -> PrepareOptions:
    """Return `options`, with `usual` for those that are unset."""
    left_open = {
        field.name: getattr(usual, field.name)
        for field in dataclasses.fields(options)
        if getattr(options, field.name) is None
    }
    return dataclasses.replace(options, **left_open)

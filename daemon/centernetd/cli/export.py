"""``centernetd export``: from a PyTorch checkpoint to a prepared model."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from centernetd.cli.options import (
    CalibrateOption,
    InputSize,
    Labels,
    Mean,
    Order,
    PrecisionOption,
    Resize,
    Std,
    parse_size,
    refuse_half_of_int8,
)
from centernetd.cli.prepare import write
from centernetd.model import labels as label_sets
from centernetd.prepare.export import export as export_checkpoint
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.prepare import PrepareOptions


def export(
    arch: Annotated[str, typer.Option(metavar="ARCH", help=f"{', '.join(ARCHITECTURES)}.")],
    weights: Annotated[Path, typer.Option(metavar="FILE", help="The checkpoint.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.onnx", help="The prepared model.")
    ],
    input_size: InputSize = None,
    labels: Labels = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    resize: Resize = None,
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
) -> None:
    """Make a PyTorch checkpoint ready to run.

    Classes, joints and the width of the heads are read from the checkpoint. Needs PyTorch.
    """
    if arch not in ARCHITECTURES:
        raise typer.BadParameter(f"--arch {arch}: there are {', '.join(ARCHITECTURES)}")
    options = PrepareOptions(
        input_size=parse_size(input_size) if input_size else None,
        order=order,
        mean=mean,
        std=std,
        resize=resize,
        labels=label_sets.find(labels) if labels else None,
        precision=precision.value if precision else None,
    )
    refuse_half_of_int8(precision, calibrate)
    write(partial(export_checkpoint, arch, weights), output, options, calibrate)

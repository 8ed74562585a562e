"""``centernetd build``: a TensorRT plan of a model."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from centernetd.cli.options import CalibrateOption, PrecisionOption, refuse_half_of_int8
from centernetd.commands.build import build as build_plan
from centernetd.commands.progress import PhasesBar
from centernetd.config.values import parse_size
from centernetd.plan import Profile
from centernetd.run.loading import find_gpu


def build(
    model: Annotated[str, typer.Argument(help="A built-in name or an ONNX file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PLAN", help="The plan; PLAN.json goes by it.")
    ],
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
    batch: Annotated[
        tuple[int, int, int], typer.Option(metavar="MIN OPT MAX", help="Frames in a batch.")
    ] = (1, 8, 8),
    workspace: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The most GPU memory to work in, as 2GB.")
    ] = None,
) -> None:
    """Build the TensorRT plan of a model, for the GPU of this box.

    An export is built in float16, and a prepared model in what it is in, unless told otherwise.
    """
    refuse_half_of_int8(precision, calibrate)
    started = time.monotonic()
    with PhasesBar(Console(stderr=True)) as bar:
        plan, calibrated = build_plan(
            model,
            output,
            _profile(batch),
            precision.value if precision else None,
            calibrate,
            _bytes(workspace) if workspace else None,
            lambda: find_gpu(0),
            bar,
        )
    if calibrated is not None:
        print(calibrated)
    found = plan.fingerprint
    print(
        f"{plan.path}: {found.flavour} {found.version}, {found.precision}, batches of "
        f"{found.profile}, {len(plan.content) / 1e6:.1f} MB, "
        f"built in {time.monotonic() - started:.1f} s"
    )


def _profile(batch: tuple[int, int, int]) -> Profile:
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise typer.BadParameter("--batch takes three sizes from 1 on that don't fall, as 1 4 8")
    return Profile(*batch)


def _bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"--workspace: {error}") from None

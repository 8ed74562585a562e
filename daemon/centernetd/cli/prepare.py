"""``centernetd prepare`` and ``centernetd fetch``: getting a model ready to run."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
from centernetd.commands.calibrate import Make
from centernetd.commands.calibrate import calibrate as calibrate_on
from centernetd.commands.progress import PhasesBar
from centernetd.config import cache_dir
from centernetd.model import labels as label_sets
from centernetd.model import manifest as manifests
from centernetd.model import zoo
from centernetd.model.manifest import Manifest
from centernetd.prepare.layouts import LAYOUTS
from centernetd.prepare.prepare import PrepareOptions
from centernetd.prepare.prepare import prepare as prepare_model


def prepare(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The export, or --show's.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.onnx", help="The prepared model.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the manifest of a prepared model.")
    ] = False,
    layout: Annotated[
        str | None, typer.Option(help=f"{', '.join(LAYOUTS)}; else told from the outputs.")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="What an output is for, as hm=537; repeat it."),
    ] = None,
    input_size: InputSize = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    resize: Resize = None,
    labels: Labels = None,
    confidence: Annotated[float | None, typer.Option(help="The default threshold.")] = None,
    nms_iou: Annotated[
        float | None, typer.Option(help="Drop boxes that overlap a better one by more.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Detections of a frame.")] = None,
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
) -> None:
    """Make an ONNX export ready to run.

    Takes any network of the CenterNet family; pre- and post-processing become part of it.
    """
    if show == (output is not None):
        raise typer.BadParameter("give either -o OUT.onnx or --show")
    if output is None:
        print(json.dumps(dataclasses.asdict(manifests.read(source)), indent=2))
        return
    options = PrepareOptions(
        layout=layout,
        heads=tuple(map(_role_and_name, head or ())),
        input_size=parse_size(input_size) if input_size else None,
        order=order,
        mean=mean,
        std=std,
        resize=resize,
        labels=label_sets.find(labels) if labels else None,
        confidence=confidence,
        nms_iou=nms_iou,
        top_k=top_k,
        precision=precision.value if precision else None,
    )
    refuse_half_of_int8(precision, calibrate)
    write(partial(prepare_model, source), output, options, calibrate)


def write(make: Make, output: Path, options: PrepareOptions, video: str | None) -> None:
    """Have ``make`` write a prepared model, calibrated on ``video`` if given; print a summary."""
    if video is None:
        print(_summary(output, make(output, options, ())))
        return
    with PhasesBar(Console(stderr=True)) as bar:
        done = calibrate_on(make, output, options, video, bar)
    print(_summary(output, done.manifest))
    print(done)


def _summary(output: Path, manifest: Manifest) -> str:
    height, width = manifest.input_size
    return (
        f"{output}: {manifest.layout}, input {height}x{width}, {manifest.resize}, "
        f"{len(manifest.labels)} classes, up to {manifest.top_k} detections, {manifest.precision}"
    )


def _role_and_name(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role and equals and name):
        raise typer.BadParameter(f"--head {text}: write ROLE=NAME, as in hm=537")
    return role, name


def fetch(
    name: Annotated[str, typer.Argument(help="A built-in model, such as centerface.")],
) -> None:
    """Download a built-in model.

    The daemon itself never downloads anything.
    """
    print(zoo.fetch(name, cache_dir()))

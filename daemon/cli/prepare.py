"""``centernetd prepare`` and ``centernetd fetch``: getting a model ready to run."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.options import InputSize, PrecisionOption, parse_size
from daemon.config import cache_dir
from daemon.model import labels as label_sets
from daemon.model import manifest as manifests
from daemon.model import zoo
from daemon.model.layouts import LAYOUTS
from daemon.model.prepare import PrepareOptions
from daemon.model.prepare import prepare as prepare_model

Three = tuple[float, float, float]


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
    mean: Annotated[Three | None, typer.Option(help="Of pixels / 255, in --order.")] = None,
    std: Annotated[Three | None, typer.Option(help="Of pixels / 255, in --order.")] = None,
    order: Annotated[str | None, typer.Option(help="Of the channels: bgr or rgb.")] = None,
    resize: Annotated[str | None, typer.Option(help="letterbox or stretch.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="One label a line, class 0 first; or coco, or voc."),
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="The default threshold.")] = None,
    nms_iou: Annotated[
        float | None, typer.Option(help="Drop boxes that overlap a better one by more.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Detections of a frame.")] = None,
    precision: PrecisionOption = None,
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
        precision=precision.full_name if precision else None,
    )
    manifest = prepare_model(source, output, options)
    height, width = manifest.input_size
    print(
        f"{output}: {manifest.layout}, input {height}x{width}, {manifest.resize}, "
        f"{len(manifest.labels)} classes, up to {manifest.top_k} detections"
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

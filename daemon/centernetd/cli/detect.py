"""``centernetd detect``: detection in still images."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from centernetd.cli.options import (
    DEFAULT_MODEL,
    Confidence,
    InputSize,
    Json,
    Model,
    parse_resolution,
)
from centernetd.commands.detect import Pixels, Still, find_images, open_detector, save
from centernetd.errors import SinkError
from centernetd.flow import Detections
from centernetd.sink.annotate import draw_boxes, label_of
from centernetd.sink.events import members, to_json


class BackendName(str, Enum):
    """Engines the network can run on."""

    AUTO = "auto"
    CPU = "onnxruntime-cpu"


def detect(
    images: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    model: Model = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Draw the boxes into copies here."),
    ] = None,
    as_json: Json = False,
    confidence: Confidence = None,
    input_size: InputSize = None,
    backend: Annotated[
        BackendName, typer.Option(help="What the network runs on.")
    ] = BackendName.AUTO,
) -> None:
    """Detect in still images."""
    paths = find_images(images)
    failed = False
    size = parse_resolution(input_size) if input_size else None
    with open_detector(model or DEFAULT_MODEL, size, backend.value, confidence) as detector:
        for still in _with_progress(detector.run(paths), len(paths)):
            failed |= still.image is None
            _show(still, detector.labels, as_json)
            if output is not None and still.image is not None:
                draw_boxes(still.image, still.detections, detector.labels)
                failed |= not _save(still.image, output, still.path.name)
    raise typer.Exit(int(failed))


def _with_progress(stills: Iterator[Still], total: int) -> Iterator[Still]:
    console = Console(stderr=True)
    with Progress(
        console=console,
        transient=True,
        # on a terminal, output goes above the bar; elsewhere it must stay on stdout
        redirect_stdout=sys.stdout.isatty(),
        disable=not console.is_terminal,
    ) as bar:
        yield from bar.track(stills, total=total, description="images")


def _save(image: Pixels, folder: Path, name: str) -> bool:
    """Write an annotated copy, or print why not: an error must not stop the other images."""
    try:
        save(image, folder, name)
    except SinkError as error:
        print(f"centernetd: {error}", file=sys.stderr)
        return False
    return True


def _show(still: Still, labels: Sequence[str], as_json: bool) -> None:
    if still.image is None:
        print(f"centernetd: {still.path}: {still.error}", file=sys.stderr)
        if as_json:
            print(json.dumps({"image": str(still.path), "error": still.error}))
    elif as_json:
        print(_record(still.path, still.image, still.detections, labels))
    else:
        counts = Counter(label_of(int(number), labels) for number in still.detections.class_id)
        found = ", ".join(f"{count} {label}" for label, count in counts.items())
        print(f"{still.path}: {found or 'nothing found'}")


def _record(path: Path, image: Pixels, detections: Detections, labels: Sequence[str]) -> str:
    """Return the --json output for an image, with detections as in the event log."""
    height, width = image.shape[:2]
    classes = [members(label=label, class_id=n) for n, label in enumerate(labels)]
    found = to_json(detections, classes)
    return (
        f'{{"image": {json.dumps(str(path))}, "width": {width}, "height": {height}, '
        f'"detections": {found}}}'
    )

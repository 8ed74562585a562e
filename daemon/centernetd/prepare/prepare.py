"""From an export to a prepared model: pre- and post-processing become part of the graph."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from onnx import ModelProto

from centernetd.errors import ModelError
from centernetd.model import contract, files, sealed
from centernetd.model import manifest as manifests
from centernetd.model.manifest import FLOAT16, FLOAT32, INT8, Manifest
from centernetd.prepare import clean, int8, precision
from centernetd.prepare.adopt import adopt
from centernetd.prepare.examine import examine
from centernetd.prepare.layouts import Heads, Layout, recognise
from centernetd.prepare.options import PrepareOptions
from centernetd.prepare.wrap import wrap

__all__ = ["VERSION", "PrepareOptions", "about", "prepare", "prepare_model"]

VERSION = 3  # increment when the same export would be prepared differently

_DEFAULT_SIZE = (512, 512)
_DEFAULT_TOP_K = 100


def prepare(
    source: Path, output: Path, options: PrepareOptions, frames: int8.Frames = ()
) -> Manifest:
    """Write the prepared model of `source` to `output` and return its manifest.

    `source` is a raw export of any known layout, or a model that already has the tensors of a
    prepared one and gets a new manifest. The result is test-run on the CPU. For int8, `frames` are
    used for calibration.

    Raises
    ------
    ModelError
        `source` is rejected; the message names it and the reason.
    StartupError
        `output` can't be written.
    """
    with files.naming(source):
        model, digest = files.load(source)
        return prepare_model(model, digest, output, options, frames)


def prepare_model(
    model: ModelProto,
    digest: str,
    output: Path,
    options: PrepareOptions,
    frames: int8.Frames = (),
) -> Manifest:
    """Do the same with a model in memory, modifying it; `digest` is that of its source.

    Raises
    ------
    ModelError
        `model` is rejected; the message doesn't name it.
    StartupError
        `output` can't be written.
    """
    adopted = contract.is_met_by(model)
    with sealed.replacing(output, about(digest, options)) as part:
        if adopted:
            manifest = adopt(model, digest, options)
        else:
            manifest = _convert(model, digest, options, frames)
        manifests.embed(model, manifest)
        part.write_bytes(model.SerializeToString())
        if not adopted:
            contract.verify_file(part, manifest.input_size)
    return manifest


def about(digest: str, options: PrepareOptions) -> dict[str, str]:
    """Return the description for a prepared model's seal: everything it depends on."""
    said = json.dumps([VERSION, digest, dataclasses.asdict(options)], sort_keys=True)
    return {"key": hashlib.sha256(said.encode()).hexdigest()[:16]}


def _convert(
    model: ModelProto, digest: str, options: PrepareOptions, frames: int8.Frames
) -> Manifest:
    """Convert a raw export, in place, to a prepared model, not yet run and without manifest."""
    if options.precision == INT8 and not frames:
        raise ModelError(
            "int8 is calibrated on frames: make it with `--precision int8 --calibrate VIDEO` of "
            "`centernetd prepare` (or export, or build), and use the result"
        )
    size = contract.limited(options.input_size or clean.declared_size(model) or _DEFAULT_SIZE)
    if any(length % Layout.STRIDE for length in size):
        raise ModelError(
            f"an input size of {size[0]}x{size[1]} is not divisible by {Layout.STRIDE}"
        )
    clean.clean(model, size)
    network = examine(model, size, options.heads)
    layout, heads = recognise(network, options.layout)
    clean.keep(model.graph, [head.tensor for head in heads.values()])
    manifest = _describe(layout, heads, size, digest, options)
    if manifest.precision == FLOAT16:
        precision.to_float16(model, [heads[role].tensor for role in layout.peaked if role in heads])
    layers: Sequence[str] = ()
    if manifest.precision == INT8:
        layers = int8.fold_layers(model, [head.tensor for head in heads.values()])
    wrap(network, layout, heads, manifest)
    if manifest.precision == INT8:
        int8.quantize(model, layers, frames)
    return manifest


def _describe(
    layout: Layout, heads: Heads, size: tuple[int, int], digest: str, options: PrepareOptions
) -> Manifest:
    """Combine the user's options with the layout's defaults."""
    classes = layout.classes(heads)
    return Manifest(
        layout=layout.name,
        input_size=size,
        order=options.order or layout.order,
        mean=options.mean or layout.mean,
        std=options.std or layout.std,
        resize=options.resize or layout.resize,
        labels=_labels(options.labels or layout.labels(classes), classes),
        joints=layout.joints(heads),
        confidence=layout.confidence if options.confidence is None else options.confidence,
        nms_iou=layout.nms_iou if options.nms_iou is None else options.nms_iou,
        top_k=_DEFAULT_TOP_K if options.top_k is None else options.top_k,
        source_sha256=digest,
        precision=options.precision or FLOAT32,
    )


def _labels(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    if len(labels) != classes:
        raise ModelError(f"the network has {classes} classes, but {len(labels)} labels are given")
    return tuple(labels)

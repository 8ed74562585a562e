"""From an export to a prepared model: pre- and post-processing become part of the graph."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from onnx import ModelProto, TensorProto

from centernetd.errors import ModelError
from centernetd.model import contract, files, sealed, zoo
from centernetd.model import labels as names
from centernetd.model import manifest as manifests
from centernetd.model.manifest import FLOAT16, FLOAT32, INT8, Manifest
from centernetd.prepare import clean, int8
from centernetd.prepare.decode import wrap
from centernetd.prepare.examine import examine
from centernetd.prepare.float16 import to_float16
from centernetd.prepare.graph import keep
from centernetd.prepare.layouts import AnyLayout, Declared, Heads, Network, recognise

VERSION = 3  # increment when the same export would be prepared differently

_DEFAULT_SIZE = (512, 512)
_DEFAULT_TOP_K = 100
_DEFAULT_CONFIDENCE = 0.4  # of adopted models
_DECLARABLE = ("stride", "scale", "no_object")
_FIXED = ("layout", "heads", *_DECLARABLE, "order", "mean", "std", "top_k")  # in an adopted graph
_FREE = ("resize", "labels", "confidence", "nms_iou")


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """The user's description of a model; None leaves a field to the layout or the file.

    The fields are those of `Manifest`, plus those of `Declared`, and `heads`: pairs of a role and
    the name of its output. Outputs that are not named there are dropped.
    """

    layout: str | None = None
    heads: tuple[tuple[str, str], ...] = ()
    stride: int | None = None
    scale: float | None = None
    no_object: int | None = None
    input_size: tuple[int, int] | None = None
    order: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: str | None = None
    labels: tuple[str, ...] | None = None
    confidence: float | None = None
    nms_iou: float | None = None
    top_k: int | None = None
    precision: str | None = None


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
    builtin = None if adopted else zoo.find(model)
    if builtin is not None:
        digest = builtin.digest
    with sealed.replacing(output, about(digest, options)) as part:
        if adopted:
            manifest = _adopt(model, digest, options)
        else:
            manifest = _convert(model, digest, _completed(options, builtin), frames)
        manifests.embed(model, manifest)
        part.write_bytes(model.SerializeToString())
        if not adopted:
            contract.verify_file(part, manifest.input_size)
    return manifest


def about(digest: str, options: PrepareOptions) -> dict[str, str]:
    """Return the description for a prepared model's seal: everything it depends on."""
    key = json.dumps([VERSION, digest, dataclasses.asdict(options)], sort_keys=True)
    return {"key": hashlib.sha256(key.encode()).hexdigest()[:16]}


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
    declared = _declared(options)
    if any(length % declared.stride for length in size):
        raise ModelError(
            f"an input size of {size[0]}x{size[1]} is not divisible by {declared.stride}"
        )
    clean.clean(model, size)
    network = examine(model, size, options.heads, declared)
    layout, heads = recognise(network, options.layout)
    for name in _DECLARABLE:
        if getattr(options, name) is not None and name not in layout.declarable:
            raise ModelError(f"its layout {layout.name} has no {name}: leave it out")
    keep(model.graph, [head.tensor for head in heads.values()])
    manifest = _describe(network, layout, heads, digest, options)
    if manifest.precision == FLOAT16:
        to_float16(model, [heads[role].tensor for role in layout.precise if role in heads])
    layers: Sequence[str] = ()
    if manifest.precision == INT8:
        layers = int8.fold_layers(model, [head.tensor for head in heads.values()])
    wrap(network, layout, heads, manifest)
    if manifest.precision == INT8:
        int8.quantize(model, layers, frames)
    return manifest


def _completed(options: PrepareOptions, builtin: zoo.Builtin | None) -> PrepareOptions:
    """Fill in what is known of a built-in model."""
    known = builtin.defaults if builtin else {}
    missing = {name: value for name, value in known.items() if getattr(options, name) is None}
    return dataclasses.replace(options, **missing)


def _declared(options: PrepareOptions) -> Declared:
    given = {
        name: getattr(options, name) for name in _DECLARABLE if getattr(options, name) is not None
    }
    declared = Declared(**given, classes=len(options.labels) if options.labels else None)
    if declared.stride < 1 or not 0 < declared.scale < math.inf:
        raise ModelError("its stride and its scale must be above 0")
    return declared


def _describe(
    network: Network, layout: AnyLayout, heads: Heads, digest: str, options: PrepareOptions
) -> Manifest:
    """Combine the user's options with the layout's defaults."""
    classes = layout.classes(network, heads)
    return Manifest(
        layout=layout.name,
        input_size=network.size,
        order=options.order or layout.order,
        mean=options.mean or layout.mean,
        std=options.std or layout.std,
        resize=options.resize or layout.resize,
        labels=_labels(options.labels or layout.labels(network, classes), classes),
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


def _adopt(model: ModelProto, digest: str, options: PrepareOptions) -> Manifest:
    """Return the manifest of a model that has the tensors of a prepared one.

    Raises
    ------
    ModelError
        It violates the contract, or `options` would require a different graph.
    """
    size = contract.input_size(model)
    if options.input_size not in (None, size):
        raise ModelError(f"it is prepared already, for an input of {size[0]}x{size[1]}")
    for name in _FIXED:
        if getattr(options, name) not in (None, ()):
            raise ModelError(f"it is prepared already: its {name} can't be changed")
    measured = contract.verify(model)
    known = manifests.find(model)
    if known is None:
        known = _manifest_for(size, measured, options.labels, digest, precision_of(model))
    if options.precision not in (None, known.precision):
        raise ModelError(
            f"it is prepared already, in {known.precision}: for {options.precision}, prepare the "
            "export that it was made from"
        )
    given = {name: getattr(options, name) for name in _FREE if getattr(options, name) is not None}
    if len(given.get("labels", known.labels)) != len(known.labels):
        raise ModelError(
            f"it has {len(known.labels)} classes, but {len(given['labels'])} labels are given"
        )
    return dataclasses.replace(known, **given)


def _manifest_for(
    size: tuple[int, int],
    measured: contract.TrialRun,
    labels: Sequence[str] | None,
    digest: str,
    computes_in: str,
) -> Manifest:
    """Return a manifest for a model without one, CenterNet or not."""
    if not labels:
        raise ModelError(
            "it doesn't name its classes: prepare it with --labels FILE, or set labels_file"
        )
    return Manifest(
        layout="prepared",
        input_size=size,
        order="bgr",
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
        resize="letterbox",
        labels=tuple(labels),
        joints=names.of_joints(measured.joints),
        confidence=_DEFAULT_CONFIDENCE,
        nms_iou=None,
        top_k=measured.top_k,
        source_sha256=digest,
        precision=computes_in,
    )


def precision_of(model: ModelProto) -> str:
    """Return a model's precision, judged by its weights and operators."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return INT8
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    return FLOAT16 if TensorProto.FLOAT16 in kinds else FLOAT32

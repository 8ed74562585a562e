"""From an export to a prepared model: pre- and post-processing become part of the graph."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from daemon.errors import ModelError
from daemon.model import clean, contract, files, precision
from daemon.model import manifest as manifests
from daemon.model.layouts import Head, Layout, Network, recognise
from daemon.model.manifest import Manifest
from daemon.model.wrap import wrap

VERSION = 2  # counted up when the same export would be prepared otherwise

_DEFAULT_SIZE = (512, 512)
_DEFAULT_TOP_K = 100
_DEFAULT_CONFIDENCE = 0.4


@dataclass(frozen=True)
class PrepareOptions:
    """What the user says of a model; None leaves it to the layout or the file.

    The fields are those of `Manifest`.
    """

    layout: str | None = None
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


def prepare(source: Path, output: Path, options: PrepareOptions) -> Manifest:
    """Write the prepared model of `source` to `output` and return its manifest.

    `source` is a raw export of any known layout, or a model that has the tensors of a prepared
    one already and gets (another) manifest. The result has been run on the CPU.

    Raises
    ------
    ModelError
        `source` is refused; the sentence names it and says why.
    StartupError
        `output` can't be written.
    """
    with files.naming(source):
        model, digest = files.load(source)
        adopted = contract.is_met_by(model)
        manifest = _adopt(model, digest, options) if adopted else _convert(model, digest, options)
        manifests.embed(model, manifest)
        content = model.SerializeToString()
    files.write(content, output)
    return manifest


def _convert(model: ModelProto, digest: str, options: PrepareOptions) -> Manifest:
    """Turn a raw export, in place, into a prepared model without its manifest."""
    size = options.input_size or clean.declared_size(model) or _DEFAULT_SIZE
    if any(length % Layout.STRIDE for length in size):
        raise ModelError(
            f"an input size of {size[0]}x{size[1]} is not divisible by {Layout.STRIDE}"
        )
    clean.clean(model, size)
    network = _examine(model, size)
    layout, heads = recognise(network, options.layout)
    classes = layout.classes(heads)
    manifest = Manifest(
        layout=layout.name,
        input_size=size,
        order=options.order or layout.order,
        mean=options.mean or layout.mean,
        std=options.std or layout.std,
        resize=options.resize or layout.resize,
        labels=_labels(options.labels or layout.labels, classes),
        joints=layout.joints,
        confidence=layout.confidence if options.confidence is None else options.confidence,
        nms_iou=layout.nms_iou if options.nms_iou is None else options.nms_iou,
        top_k=_DEFAULT_TOP_K if options.top_k is None else options.top_k,
        source_sha256=digest,
        precision=options.precision or precision.FLOAT32,
    )
    if manifest.precision == precision.FLOAT16:
        precision.to_float16(model, scores=heads[0].tensor)
    wrap(network, layout, heads, manifest)
    contract.verify(model)
    return manifest


def _adopt(model: ModelProto, digest: str, options: PrepareOptions) -> Manifest:
    """Describe a model that has the tensors of a prepared one; its graph stays as it is."""
    size = contract.input_size(model)
    if options.input_size not in (None, size):
        raise ModelError(f"it is prepared already, for an input of {size[0]}x{size[1]}")
    for name in ("layout", "order", "mean", "std", "top_k"):
        if getattr(options, name) is not None:
            raise ModelError(f"it is prepared already: its {name} can't be changed")
    measured = contract.verify(model)
    known = manifests.find(model)
    if known is None:
        known = _described(size, measured, options.labels, digest, precision.of(model))
    if options.precision not in (None, known.precision):
        raise ModelError(
            f"it is prepared already, in {known.precision}: for {options.precision}, prepare the "
            "export that it was made from"
        )
    given = {
        name: getattr(options, name)
        for name in ("resize", "labels", "confidence", "nms_iou")
        if getattr(options, name) is not None
    }
    if len(given.get("labels", known.labels)) != len(known.labels):
        raise ModelError(
            f"it has {len(known.labels)} classes, but {len(given['labels'])} labels are given"
        )
    return dataclasses.replace(known, **given)


def _described(
    size: tuple[int, int],
    measured: contract.Measured,
    labels: Sequence[str] | None,
    digest: str,
    computes_in: str,
) -> Manifest:
    """Describe a model that says nothing about itself, CenterNet or not."""
    if not labels:
        raise ModelError("it doesn't say what its classes are: give it labels")
    return Manifest(
        layout="prepared",
        input_size=size,
        order="bgr",
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
        resize="letterbox",
        labels=tuple(labels),
        joints=tuple(f"joint_{index}" for index in range(measured.joints)),
        confidence=_DEFAULT_CONFIDENCE,
        nms_iou=None,
        top_k=measured.top_k,
        source_sha256=digest,
        precision=computes_in,
    )


def _examine(model: ModelProto, size: tuple[int, int]) -> Network:
    """Run the bare network once on two black frames to learn its outputs' real shapes."""
    name = model.graph.input[0].name
    found = contract.run(model, **{name: np.zeros((2, 3, *size), np.float32)})
    for output, value in found.items():
        if value.dtype != np.float32:
            raise ModelError(f"its output {output} is not float32: export it in float32")
        if value.ndim == 0 or len(value) != 2:
            raise ModelError(f"its output {output} has a fixed batch size: export a dynamic batch")
    heads = tuple(
        Head(output.removeprefix(clean.SCOPE), output, value.shape[1:])
        for output, value in found.items()
    )
    return Network(model, heads, (size[0] // Layout.STRIDE, size[1] // Layout.STRIDE))


def _labels(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    if not labels:
        return tuple(f"class_{index}" for index in range(classes))
    if len(labels) != classes:
        raise ModelError(f"the network has {classes} classes, but {len(labels)} labels are given")
    return tuple(labels)

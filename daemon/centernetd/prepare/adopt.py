"""Models that already have the tensors of a prepared one: they only get a manifest."""

import dataclasses
from collections.abc import Sequence

from onnx import ModelProto

from centernetd.errors import ModelError
from centernetd.model import contract
from centernetd.model import labels as names
from centernetd.model import manifest as manifests
from centernetd.model.manifest import Manifest
from centernetd.prepare import precision
from centernetd.prepare.options import PrepareOptions

_DEFAULT_CONFIDENCE = 0.4
_FIXED = ("layout", "heads", "order", "mean", "std", "top_k")  # built into the graph
_FREE = ("resize", "labels", "confidence", "nms_iou")


def adopt(model: ModelProto, digest: str, options: PrepareOptions) -> Manifest:
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
        if getattr(options, name):
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
    given = {name: getattr(options, name) for name in _FREE if getattr(options, name) is not None}
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
    """Return a manifest for a model without one, CenterNet or not."""
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
        joints=names.of_joints(measured.joints),
        confidence=_DEFAULT_CONFIDENCE,
        nms_iou=None,
        top_k=measured.top_k,
        source_sha256=digest,
        precision=computes_in,
    )

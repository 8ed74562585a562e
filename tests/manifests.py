"""Manifests for engines that are doubles."""

import dataclasses
from typing import Any

from centernetd.model.manifest import Manifest

_PLAIN = Manifest(
    layout="prepared",
    input_size=(4, 6),
    order="bgr",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    resize="letterbox",
    labels=("thing",),
    joints=(),
    confidence=0.5,
    nms_iou=None,
    top_k=1,
    source_sha256="0" * 64,
)


def plain(**fields: Any) -> Manifest:
    """Return a manifest that only its ``fields`` set apart."""
    return dataclasses.replace(_PLAIN, **fields)

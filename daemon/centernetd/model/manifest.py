"""The manifest: a JSON document, embedded in a prepared model, that describes it."""

import dataclasses
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from centernetd.errors import ModelError
from centernetd.model import files, sealed

FLOAT32 = "float32"
FLOAT16 = "float16"
INT8 = "int8"
PRECISIONS = (FLOAT32, FLOAT16, INT8)
"""Precisions a network may compute in."""

KEY = "centernetd.manifest"

_MAX_SHOWN = 60

MAX_TOP_K = 3840  # the limit of TensorRT's TopK


@dataclass(frozen=True)
class Manifest:
    """A prepared model's description; the constructor raises `ModelError` for invalid values.

    `input_size` is (height, width). `order`, `mean` and `std` define how the graph normalizes the
    BGR pixels it receives: channels in `order`, then ``(pixel / 255 - mean) / std`` for each. A
    network that takes raw 0..255 pixels has mean 0 and std 1/255. `resize` defines how a frame is
    fitted to the input. `confidence` is the default threshold. With `nms_iou`, boxes that overlap
    a better box of their class by more are dropped after the engine. `precision` applies to the
    network only; the graph's inputs, outputs and surrounding operators don't depend on it.
    """

    layout: str
    input_size: tuple[int, int]
    order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str
    labels: tuple[str, ...]
    joints: tuple[str, ...]
    confidence: float
    nms_iou: float | None
    top_k: int
    source_sha256: str
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        rules = {
            "layout": (_is_text(self.layout), "a name"),
            "input_size": (_is_size(self.input_size), "[height, width], both above 0"),
            "order": (self.order in ("bgr", "rgb"), "bgr or rgb"),
            "mean": (_are_numbers(self.mean), "three numbers"),
            "std": (_are_numbers(self.std) and 0 not in self.std, "three numbers other than 0"),
            "resize": (self.resize in ("letterbox", "stretch"), "letterbox or stretch"),
            "labels": (_are_names(self.labels) and bool(self.labels), "a list of distinct names"),
            "joints": (_are_names(self.joints), "a list of distinct names"),
            "confidence": (_is_share(self.confidence), "a number from 0 to 1"),
            "nms_iou": (self.nms_iou is None or _is_share(self.nms_iou), "none or from 0 to 1"),
            "top_k": (
                _is_count(self.top_k) and self.top_k <= MAX_TOP_K,
                f"a whole number from 1 to {MAX_TOP_K}",
            ),
            "source_sha256": (_is_sha256(self.source_sha256), "64 hexadecimal digits"),
            "precision": (self.precision in PRECISIONS, ", ".join(PRECISIONS)),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ModelError(f"{name} must be {rule}, not {_shown(getattr(self, name))}")

    def to_json(self) -> str:
        """Return a JSON document that `from_json` accepts."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, document: str) -> "Manifest":
        """Parse a document; raise `ModelError` naming the first invalid field."""
        try:
            found = json.loads(document)
        except (ValueError, RecursionError):
            raise ModelError("the manifest is not JSON") from None
        if not isinstance(found, dict):
            raise ModelError("the manifest is not a JSON object")
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in found]:
            raise ModelError(f"the manifest lacks {missing[0]}")
        if unknown := [name for name in found if name not in names]:
            raise ModelError(f"the manifest has an unknown field {_shown(unknown[0])}")
        return cls(**{name: _frozen(value) for name, value in found.items()})


def find(model: onnx.ModelProto) -> Manifest | None:
    """Return the manifest embedded in `model`, or None."""
    for entry in model.metadata_props:
        if entry.key == KEY:
            return Manifest.from_json(entry.value)
    return None


def embed(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Embed `manifest` in `model`, replacing any existing one; this invalidates the seal."""
    props = {entry.key: entry.value for entry in model.metadata_props}
    props.pop(sealed.KEY, None)
    onnx.helper.set_model_props(model, {**props, KEY: manifest.to_json()})


@dataclass(frozen=True)
class PreparedModel:
    """The file of a prepared model, its manifest, and its SHA-256 including external weights."""

    path: Path
    manifest: Manifest
    sha256: str


def load(path: Path) -> PreparedModel:
    """Parse the prepared model at `path`; raise `ModelError` if it has no manifest."""
    with files.naming(path):
        model, digest = files.load(path)
        manifest = find(model)
        if manifest is None:
            raise ModelError(
                "not a prepared model (it has no manifest): run `centernetd prepare` on it first"
            )
        return PreparedModel(path, manifest, digest)


def read(path: Path) -> Manifest:
    """Return the manifest of the prepared model at `path`; raise as `load`."""
    return load(path).manifest


def _shown(value: object) -> str:
    """Return `value` for an error message, truncated: its length is up to the file's author."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _frozen(value: Any) -> Any:  # noqa: ANN401 - the constructor checks it
    return tuple(value) if isinstance(value, list) else value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_count, value))


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # false for NaN, and for 10**400


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(_is_number, value))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and 0 <= value <= 1


def _are_names(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None

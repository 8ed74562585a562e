"""The manifest: one JSON document, inside the model, strictly checked."""

import json
from pathlib import Path

import onnx
import pytest

from centernetd.errors import ModelError
from centernetd.model import manifest as manifests
from centernetd.model.manifest import MAX_TOP_K, Manifest
from tests import exports, models

MANIFEST = Manifest(
    layout="centerface",
    input_size=(480, 640),
    order="rgb",
    mean=(0.0, 0.1, 0.2),
    std=(1 / 255, 0.5, 1.0),
    resize="stretch",
    labels=("face", "Gesicht", "лицо"),
    joints=("nose",),
    confidence=0.25,
    nms_iou=0.3,
    top_k=50,
    source_sha256="0123456789abcdef" * 4,
)


def test_a_document_contains_all_of_it() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_a_model_carries_one_manifest_beside_what_else_it_contains(tmp_path: Path) -> None:
    model = models.squares((64, 64))
    onnx.helper.set_model_props(model, {"author": "somebody", manifests.KEY: "old"})
    manifests.embed(model, MANIFEST)
    path = exports.write(model, tmp_path / "model.onnx")
    assert manifests.read(path) == MANIFEST
    assert {entry.key for entry in onnx.load(path).metadata_props} == {"author", manifests.KEY}


def test_a_model_without_manifest_is_refused_with_what_to_run(tmp_path: Path) -> None:
    path = exports.write(models.squares((64, 64)), tmp_path / "raw.onnx")
    with pytest.raises(ModelError, match=r"raw\.onnx: .*run `centernetd prepare`"):
        manifests.read(path)


def test_a_wrong_manifest_is_named_with_its_file_and_field(tmp_path: Path) -> None:
    model = models.squares((64, 64))
    document = json.loads(MANIFEST.to_json()) | {"mean": [1, 2]}
    onnx.helper.set_model_props(model, {manifests.KEY: json.dumps(document)})
    path = exports.write(model, tmp_path / "wrong.onnx")
    with pytest.raises(ModelError, match=r"wrong\.onnx: mean must be three numbers, not \(1, 2\)"):
        manifests.read(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layout", ""),
        ("layout", 3),
        ("input_size", [512]),
        ("input_size", [0, 512]),
        ("input_size", [512.0, 512]),
        ("input_size", [True, True]),
        ("input_size", "512x512"),
        ("order", "gbr"),
        ("mean", [0.1, 0.2, "0.3"]),
        ("mean", [0.1, 0.2, float("nan")]),
        ("mean", [0.1, 0.2, 10**400]),
        ("std", [0.1, 0, 0.3]),
        ("resize", "crop"),
        ("labels", []),
        ("labels", ["a", "a"]),
        ("labels", ["a", " "]),
        ("labels", "face"),
        ("joints", [1]),
        ("joints", None),
        ("confidence", 1.5),
        ("confidence", 10**400),
        ("confidence", None),
        ("nms_iou", -0.1),
        ("nms_iou", False),
        ("top_k", 0),
        ("top_k", MAX_TOP_K + 1),
        ("top_k", 1.0),
        ("source_sha256", "abc"),
        ("source_sha256", None),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: object) -> None:
    document = json.loads(MANIFEST.to_json()) | {field: value}
    with pytest.raises(ModelError, match=f"^{field} must be "):
        Manifest.from_json(json.dumps(document))


@pytest.mark.parametrize("field", json.loads(MANIFEST.to_json()))
def test_a_field_that_is_missing_is_named(field: str) -> None:
    document = json.loads(MANIFEST.to_json())
    del document[field]
    with pytest.raises(ModelError, match=f"lacks {field}"):
        Manifest.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        (json.dumps(json.loads(MANIFEST.to_json()) | {"colour": 1}), "unknown field 'colour'"),
    ],
)
def test_what_is_no_manifest_at_all(document: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        Manifest.from_json(document)

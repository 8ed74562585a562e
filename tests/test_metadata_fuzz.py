"""Whatever a model's manifest or a plan's seal contains: it is read, or refused in a sentence."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from centernetd.errors import ModelError
from centernetd.model import manifest as manifests
from centernetd.model import sealed
from centernetd.model.manifest import Manifest
from centernetd.plan.file import read_plan
from tests import exports, models
from tests.test_manifest import MANIFEST

few = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([-1, 0, 1e308, 2**63, 10**400])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12) | st.just("x" * 1000),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
FIELDS = st.sampled_from([field.name for field in dataclasses.fields(Manifest)])
PLAN = b"no plan at all"
FINGERPRINT = {
    "model_sha256": "0" * 64,
    "precision": "float16",
    "profile": {"minimum": 1, "optimum": 2, "maximum": 4},
    "flavour": "TensorRT",
    "version": "10.3.0",
    "gpu": {"name": "Orin", "compute_capability": "8.7"},
}
DOCUMENT: dict[str, Any] = {
    "format": 2,
    "fingerprint": FINGERPRINT,
    "manifest": dataclasses.asdict(MANIFEST),
}


def read_or_refused(read: Callable[[], object]) -> None:
    try:
        read()
    except ModelError as error:
        sentence = str(error)
        assert sentence
        assert sentence.isprintable()
        assert len(sentence) < 500


@few
@given(text=st.text(max_size=100) | st.just("[" * 100_000))
def test_any_text_as_a_manifest(text: str) -> None:
    read_or_refused(lambda: Manifest.from_json(text))


@few
@given(changes=st.dictionaries(FIELDS | st.text(max_size=8), VALUES, max_size=3))
def test_any_value_in_a_manifest(changes: dict[str, Any]) -> None:
    document = json.loads(MANIFEST.to_json()) | changes
    read_or_refused(lambda: Manifest.from_json(json.dumps(document)))


@few
@given(document=VALUES)
def test_any_document_as_a_manifest(document: object) -> None:
    read_or_refused(lambda: Manifest.from_json(json.dumps(document)))


@settings(few, max_examples=30)
@given(entries=st.lists(st.tuples(st.just(manifests.KEY) | TEXTS, TEXTS), max_size=3))
def test_any_metadata_in_a_model(tmp_path: Path, entries: list[tuple[str, str]]) -> None:
    model = models.squares((64, 64))
    for key, value in entries:
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    path = exports.write(model, tmp_path / "model.onnx")
    read_or_refused(lambda: manifests.read(path))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "a.plan"
    path.write_bytes(PLAN)
    path.chmod(0o600)
    return path


def test_the_seal_that_the_others_are_made_of_is_right(plan: Path) -> None:
    sealed.write(plan, PLAN, DOCUMENT)
    assert read_plan(plan).manifest == MANIFEST


@few
@given(text=TEXTS | st.just("[" * 100_000))
def test_any_text_in_a_seal(plan: Path, text: str) -> None:
    plan.write_bytes(PLAN + sealed.seal(PLAN, text))
    read_or_refused(lambda: read_plan(plan))


@few
@given(seal=st.binary(max_size=100), kept=st.integers(0, 200))
@example(seal=b"\r" + 12 * b"\0" + b"\x80", kept=21)  # text that is not UTF-8 is given as bytes
def test_any_bytes_at_the_end_of_a_plan(plan: Path, seal: bytes, kept: int) -> None:
    plan.write_bytes(PLAN + sealed.seal(PLAN, json.dumps(DOCUMENT))[:kept] + seal)
    read_or_refused(lambda: read_plan(plan))


@few
@given(
    place=st.sampled_from(
        ["", "fingerprint", "fingerprint.profile", "fingerprint.gpu", "manifest"]
    ),
    key=st.sampled_from([*DOCUMENT, *FINGERPRINT, "minimum", "maximum", "name"]) | FIELDS,
    value=VALUES,
)
def test_any_value_in_a_seal(plan: Path, place: str, key: str, value: object) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    branch = document
    for name in filter(None, place.split(".")):
        branch = branch[name]
    branch[key] = value
    sealed.write(plan, PLAN, document)
    read_or_refused(lambda: read_plan(plan))

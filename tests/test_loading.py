"""From the configured model to its engine: how often its files are parsed on the way."""

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from centernetd.inference.engines import Backend
from centernetd.model import files
from centernetd.plan import Gpu, PlanFile
from centernetd.prepare import store
from centernetd.run import loading
from centernetd.run.loading import ConfiguredModel, Sizes
from tests import exports, models
from tests.plans import SIZE, real_binding

CPU = Backend("onnxruntime-cpu", "a test asks for it")
TENSORRT = Backend("tensorrt", "a test asks for it")


@pytest.fixture
def model(tmp_path: Path) -> ConfiguredModel:
    """An export that has been prepared for the CPU."""
    exports.write(models.squares(SIZE, reach=2), tmp_path / "squares.onnx")
    request = store.Request("squares.onnx", tmp_path, tmp_path / "cache")
    model = ConfiguredModel(request, tmp_path / "plans")
    model.prepared(CPU)
    return model


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file has been parsed."""
    load, count = files.load, Counter[str]()

    def counting(path: Path) -> object:
        count[path.name.partition("-")[0]] += 1
        return load(path)

    monkeypatch.setattr(files, "load", counting)
    return count


def test_each_file_is_parsed_once_per_start(model: ConfiguredModel, parsed: Counter[str]) -> None:
    engine, manifest = loading.load_engine(model, CPU, Sizes(1, 1))
    with closing(engine):
        assert engine.info.precision == manifest.precision == "float32"
    assert parsed == {"squares.onnx": 1, "squares": 1}, "the export and what it was prepared to"


def test_a_prepared_model_is_parsed_once_per_start(
    model: ConfiguredModel, parsed: Counter[str]
) -> None:
    prepared = store.resolve(model.request)
    parsed.clear()
    named = replace(model, request=replace(model.request, path=str(prepared.path)))
    engine, _ = loading.load_engine(named, CPU, Sizes(1, 1))
    with closing(engine):
        assert parsed == {"squares": 1}


def test_a_model_with_a_plan_is_parsed_once_per_start(
    model: ConfiguredModel, parsed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_binding()
    monkeypatch.setattr(Gpu, "find", lambda index: Gpu("Fake GPU", "8.6"))
    model.plan(TENSORRT, Sizes(1, 1))
    parsed.clear()
    opened: list[PlanFile] = []

    def open_plan(plan: PlanFile, device: int, max_batch: int) -> object:
        opened.append(plan)
        raise InterruptedError

    monkeypatch.setattr(loading, "open_plan", open_plan)
    with pytest.raises(InterruptedError):
        loading.load_engine(model, TENSORRT, Sizes(1, 1))
    assert opened[0].build_seconds is None
    assert parsed == {"squares.onnx": 1, "squares": 1}

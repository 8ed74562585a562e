"""What `check`, `doctor` and the metrics report about plans that exist, or still to be built."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from centernetd.doctor.doctor import _plans
from centernetd.doctor.finding import Finding, Level
from centernetd.errors import EngineError
from centernetd.inference.engines import Backend
from centernetd.plan import Gpu
from centernetd.prepare import store
from centernetd.run import loading
from centernetd.run.loading import ConfiguredModel, Sizes
from centernetd.service.metrics import PrometheusMeters
from tests.commandline import CommandLine, clip, configuration, squares_model
from tests.plans import real_binding

GPU = Gpu("Fake GPU", "8.6")
TENSORRT = Backend("tensorrt", "a test asks for it")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with a GPU and TensorRT-RTX; its configuration is returned."""
    real_binding()
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setattr(Gpu, "find", lambda index: GPU)
    clip(tmp_path / "gate.mp4", 30)
    path = configuration(tmp_path, squares_model(tmp_path), gate={"source": "gate.mp4"})
    settings = json.loads(path.read_text())
    settings["engine"] = {"backend": "tensorrt"}
    path.write_text(json.dumps(settings))
    return path


def model_of(box: Path) -> ConfiguredModel:
    cache = box.parent / "cache"
    request = store.Request(str(box.parent / "squares.onnx"), box.parent, cache)
    return ConfiguredModel(request, cache / "plans")


def test_a_probe_reports_what_would_be_built_and_builds_nothing(
    cli: CommandLine, box: Path
) -> None:
    outcome = cli("check", "-c", box, "--probe", "--json")
    assert outcome.code == 0, outcome.err
    model = outcome.json["probe"]["models"]["default"]
    assert (model["backend"], model["layout"], model["labels"]) == ("tensorrt", "ctdet", 3)
    assert model["unbuilt"] == "none has been built yet"
    assert outcome.json["probe"]["capacity"] is None
    assert not list(box.parent.glob("cache/plans/*"))
    printed = cli("check", "-c", box, "--probe").out
    assert "built at the next start, which can take minutes: none has been built yet" in printed


def test_a_build_at_the_start_is_measured_and_then_nothing_is_to_be_built(box: Path) -> None:
    model, sizes = model_of(box), Sizes(2, 2)
    assert model.why_build(TENSORRT, sizes) == "none has been built yet"
    plan = model.plan(TENSORRT, sizes)
    assert plan.build_seconds is not None
    assert model.why_build(TENSORRT, sizes) is None
    assert model.plan(TENSORRT, sizes).build_seconds is None
    assert model.why_build(Backend("onnxruntime-cpu", "no GPU"), sizes) is None


def test_the_seconds_of_a_build_are_exported(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_plan(*_: object) -> None:
        raise EngineError("the GPU is made up")

    monkeypatch.setattr(loading, "open_plan", open_plan)
    registry = CollectorRegistry()
    meters = PrometheusMeters(registry)
    for _ in range(2):  # the second time it is there
        with pytest.raises(EngineError, match="made up"):
            loading.load_engine(model_of(box), TENSORRT, Sizes(2, 2), meters=meters)
    assert registry.get_sample_value("centernetd_plan_build_seconds_count") == 1


def test_doctor_judges_the_plans_that_are_there(box: Path) -> None:
    folder = box.parent / "cache" / "plans"
    (none,) = _plans(folder)
    assert (none.topic, none.level) == ("plans", Level.NOTE)
    plan = model_of(box).plan(TENSORRT, Sizes(2, 2))
    fits = Finding(f"plan {plan.path.stem}", Level.OK, "float32, batches of 1 to 2, best at 2")
    assert list(_plans(folder)) == [fits]
    plan.path.write_bytes(plan.content[:-1])
    (torn,) = _plans(folder)
    assert torn.level is Level.NOTE
    assert "damaged or incomplete" in torn.found

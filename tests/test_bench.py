"""What ``centernetd bench`` prints, and the share of the decode in it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from centernetd.bench import pipeline
from centernetd.bench.pipeline import time_model
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports
from tests.commandline import CommandLine, clip, configuration, squares_model
from tests.test_float16 import LAYOUTS, SIZE

FRAME = np.zeros((1, *SIZE, 3), np.uint8)


@pytest.mark.parametrize("layout", ["ctdet", "multi_pose"])
def test_the_decode_has_a_share(layout: str, tmp_path: Path) -> None:
    source = exports.write(LAYOUTS[layout], tmp_path / "export.onnx")
    prepare(source, tmp_path / "prepared.onnx", PrepareOptions(input_size=SIZE))
    found = time_model(tmp_path / "prepared.onnx", FRAME, threads=1)
    assert found.seconds > 0
    assert found.decode > 0


def test_a_model_whose_decode_is_not_ours_has_none(tmp_path: Path) -> None:
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", *SIZE, 3])
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, None)
    cast = helper.make_node("Cast", ["frames"], ["detections"], name="body", to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "foreign", [frames], [found])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "foreign.onnx"
    )
    assert time_model(tmp_path / "foreign.onnx", FRAME, threads=1).decode == 0


def test_bench_prints_its_figures(cli: CommandLine, tmp_path: Path) -> None:
    clip(tmp_path / "gate.mp4")
    config = configuration(tmp_path, squares_model(tmp_path), gate={"source": "gate.mp4"})
    outcome = cli("bench", "-c", config)
    assert outcome.code == 0, outcome.err
    printed = " ".join(outcome.out.split())
    assert "10 frames; pipeline / bound " in printed
    assert re.search(r"in the model, decoding takes \d+\.\d% of the network's time", printed)
    assert "first model" not in printed


SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("first", "other", "keys"),
    [
        (
            "colours",
            "animals",
            {
                "models": ["colours", "animals"],
                "detect": {"labels": ["cat"]},
                "privacy": {"blur": {"model": "animals", "labels": ["cat"]}},
                "zones": {"all": {"polygon": SQUARE, "labels": ["cat"]}},
                "lines": {"door": {"from": [0, 1], "to": [1, 0], "labels": ["cat"]}},
            },
        ),
        (
            "animals",
            "colours",
            {
                "models": "animals",
                "detect": {"labels": ["cat"]},
                "privacy": {"blur": {"model": "colours", "labels": ["red"]}},
            },
        ),
        ("animals", "colours", {"models": "animals", "privacy": {"blur": {"model": "colours"}}}),
        (
            "colours",
            "animals",
            {"models": ["colours", "animals"], "privacy": {"blur": {"labels": ["cat"]}}},
        ),
    ],
)
def test_bench_says_which_model_it_measured(
    cli: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    other: str,
    keys: dict[str, Any],
) -> None:
    monkeypatch.setattr(pipeline, "LOADS", ())
    monkeypatch.setattr(pipeline, "CROWDS", ())
    clip(tmp_path / "gate.mp4")
    models = {"colours": squares_model(tmp_path), "animals": tmp_path / "animals.onnx"}
    labels = ("cat", "dog", "cow")
    prepare(tmp_path / "squares-raw.onnx", models["animals"], PrepareOptions(labels=labels))
    path = configuration(tmp_path, "", gate={"source": "gate.mp4", **keys})
    settings = json.loads(path.read_text())
    settings["models"] = {name: {"path": str(model)} for name, model in models.items()}
    path.write_text(json.dumps(settings))
    assert cli("check", "-c", path).code == 0
    outcome = cli("bench", "-c", path)
    assert outcome.code == 0, outcome.err
    printed = " ".join(outcome.out.split())
    assert f"Only {first}, the first model of gate, was measured, with all its labels" in printed
    assert f"{other} did not run and covered nothing; --streams runs all models." in printed

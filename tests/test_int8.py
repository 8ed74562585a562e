"""Int8: what is quantized, what isn't, and that nearly the same comes out."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from centernetd.commands import calibrate
from centernetd.errors import ModelError
from centernetd.model import manifest as manifests
from centernetd.prepare.graph import Value
from centernetd.prepare.int8 import Frames
from centernetd.prepare.prepare import PrepareOptions, precision_of, prepare
from tests import exports
from tests.clips import noise, truncated
from tests.commandline import CommandLine, clip, configuration
from tests.exports import Pixels
from tests.onnx_sessions import open_session
from tests.plans import real_binding
from tests.test_float16 import DEMO, LAYOUTS, SIZE, body

LAYERED = {name: raw for name, raw in LAYOUTS.items() if name != "centerface"}  # one layer deep
FRAMES: list[Pixels] = list(
    np.random.default_rng(7).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
)


def prepared(raw: onnx.ModelProto, folder: Path, name: str = "int8") -> onnx.ModelProto:
    source = exports.write(raw, folder / "export.onnx")
    options = PrepareOptions(input_size=SIZE, precision=name)
    prepare(source, folder / f"{name}.onnx", options, FRAMES if name == "int8" else ())
    return onnx.load(folder / f"{name}.onnx")


@pytest.mark.parametrize("layout", LAYERED)
def test_only_layers_of_the_network_are_quantized(layout: str, tmp_path: Path) -> None:
    model = prepared(LAYOUTS[layout], tmp_path)
    assert precision_of(model) == "int8"
    assert manifests.read(tmp_path / "int8.onnx").precision == "int8"
    dequantized = {
        node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    readers = [node for node in model.graph.node if dequantized.intersection(node.input)]
    assert {node.op_type for node in readers} == {"Conv"}
    assert all(node.output[0].startswith("network/") for node in readers)
    assert all(len(dequantized.intersection(node.input)) == 2 for node in readers), "a bias too"
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    assert 0 < len(readers) < len(layers), "the last layers stay"


@pytest.mark.parametrize("layout", LAYERED)
def test_quantization_is_symmetric_and_weights_have_a_scale_a_channel(
    layout: str, tmp_path: Path
) -> None:
    model = prepared(LAYOUTS[layout], tmp_path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    channels = set()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert constants[node.input[2]].dtype == np.int8
            assert not constants[node.input[2]].any()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weights, scales = constants[node.input[0]], constants[node.input[1]]
            channels.add(scales.shape == weights.shape[:1])
    assert channels == {True}


@pytest.mark.parametrize("layout", LAYERED)
def test_every_layout_scores_nearly_the_same(layout: str, tmp_path: Path) -> None:
    found = []
    for name in ("float32", "int8"):
        session = open_session(prepared(LAYOUTS[layout], tmp_path, name).SerializeToString())
        found.append(session.run(["detections"], {"frames": np.stack(FRAMES)})[0][:, :20, 4])
    exact, rough = found
    assert np.max(exact) > 0.1
    assert np.any(exact != rough)
    np.testing.assert_allclose(exact, rough, atol=0.03)


def normalized(image: Value) -> dict[str, Value]:
    """A layer with a batch normalization behind it whose scales differ a hundredfold."""
    first = image.then("Conv", image.graph.constant(np.eye(3).reshape(3, 3, 1, 1)))
    parts = [np.array(three) for three in ([100.0, 1, 0.01], [0.0] * 3, [0.0] * 3, [1.0] * 3)]
    normal = first.then("BatchNormalization", *map(image.graph.constant, parts))
    heat, size, offset = body(normal)
    return {"hm": heat, "wh": size, "reg": offset}


def test_batch_normalizations_are_folded_first(tmp_path: Path) -> None:
    model = prepared(exports.export(normalized, SIZE), tmp_path)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert {entry.domain for entry in model.opset_import} == {""}


def test_a_network_of_nothing_but_last_layers_is_refused(tmp_path: Path) -> None:
    raw = exports.ctdet(exports.random_body(classes=2, seed=1), SIZE)
    with pytest.raises(ModelError, match="no layer to quantize"):
        prepared(raw, tmp_path)


def test_the_demo_s_faces_are_found_again(
    centerface: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_USUAL_FRAMES", 8)

    def make(output: Path, options: PrepareOptions, frames: Frames) -> manifests.Manifest:
        return prepare(centerface, output, options, frames)

    options = PrepareOptions(input_size=(256, 448), precision="int8")
    phases: list[str] = []

    def progress(phase: str, step: int, of: int) -> bool:
        assert 0 <= step <= of
        phases.append(phase)
        return True

    done = calibrate.calibrate(make, tmp_path / "int8.onnx", options, str(DEMO), progress)
    assert (done.manifest.precision, done.manifest.input_size) == ("int8", (256, 448))
    assert 8 <= done.frames + done.held_out < 16
    assert done.agreement.expected > 20
    assert done.agreement.matched / done.agreement.expected > 0.85
    assert done.agreement.extra / done.agreement.expected < 0.15
    assert list(dict.fromkeys(phases)) == ["reading", "comparing"]


def test_the_way_from_an_export_to_a_run(cli: CommandLine, tmp_path: Path) -> None:
    source = exports.write(LAYOUTS["ctdet"], tmp_path / "net.onnx")
    video = clip(tmp_path / "gate.mp4")
    config = configuration(tmp_path, source, gate={"source": "gate.mp4"})
    text = config.read_text().replace('"version"', '"engine": {"precision": "int8"}, "version"')
    text = text.replace("[128, 128]", "[64, 96]")
    config.write_text(text)
    outcome = cli("run", "-c", config)
    assert outcome.code == 78
    assert outcome.err.startswith(f"centernetd: {source}: int8 is calibrated on frames: make it ")

    int8 = ["--precision", "int8", "--calibrate"]
    outcome = cli("prepare", source, "-o", tmp_path / "int8.onnx", *int8, video)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    first, second = outcome.out.splitlines()
    assert first.endswith("detections, int8")
    assert re.match(r"calibrated on 5 frames; on 5 others \d+ of \d+ detections.* found", second)

    config.write_text(text.replace(str(source), str(tmp_path / "int8.onnx")))
    outcome = cli("run", "-c", config)
    assert outcome.code == 0, outcome.err
    assert "in int8 (cpu)" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--precision int8", 78, "net.onnx: int8 is calibrated on frames"),
        ("--calibrate gate.mp4", 2, "--calibrate needs --precision int8"),
        ("--precision float16 --calibrate x.mp4", 2, "--calibrate needs --precision int8"),
        ("--precision int8 --calibrate no.mp4", 1, "--calibrate no.mp4: can't be opened"),
        ("--precision int8 --calibrate ftp://a:b@c/d", 1, "--calibrate ftp://***@c/d: "),
        ("--precision int8 --calibrate one.mp4", 1, "one.mp4: one picture is not enough"),
        ("--precision int8 --calibrate pipe", 1, "--calibrate pipe: it is not a regular file"),
    ],
)
def test_what_can_not_be_calibrated(
    cli: CommandLine,
    arguments: str,
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = exports.write(LAYOUTS["ctdet"], tmp_path / "net.onnx")
    clip(tmp_path / "one.mp4", 1)
    os.mkfifo(tmp_path / "pipe")
    outcome = cli("prepare", source, "-o", "out.onnx", *arguments.split())
    assert (outcome.code, message in outcome.err) == (code, True), outcome.err
    assert not Path("out.onnx").exists()


@pytest.mark.parametrize(("share", "code"), [(0.7, 0), (0.1, 1)])
def test_a_video_that_breaks_off(cli: CommandLine, share: float, code: int, tmp_path: Path) -> None:
    """If enough frames came before, they are used, and that is reported."""
    source = exports.write(LAYOUTS["ctdet"], tmp_path / "net.onnx")
    video = truncated(noise(tmp_path / "gate.mkv", 100), share)
    int8 = ["--precision", "int8", "--calibrate", str(video)]
    outcome = cli("prepare", source, "-o", tmp_path / "int8.onnx", *int8)
    assert outcome.code == code, outcome.err
    output = outcome.err if code else outcome.out
    assert "the file was cut off" in output
    assert ("the video could only be read in part: " in output) == (code == 0)


def test_a_plan_is_built_of_an_export_in_int8(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = real_binding()
    monkeypatch.setattr("centernetd.commands.build.load_binding", lambda: binding)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    source = exports.write(LAYOUTS["multi_pose"], tmp_path / "net.onnx")
    video = clip(tmp_path / "gate.mp4")
    int8 = ["--precision", "int8", "--calibrate", str(video)]
    outcome = cli("build", source, "-o", tmp_path / "net.plan", *int8)
    assert outcome.code == 0, outcome.err
    assert "calibrated on 5 frames" in outcome.out
    assert ", int8, batches of 1 to 8" in outcome.out


def test_a_model_of_integers_is_reported(tmp_path: Path) -> None:
    model = prepared(LAYOUTS["ctdet"], tmp_path)
    del model.metadata_props[:]
    source = exports.write(model, tmp_path / "foreign.onnx")
    described = prepare(source, tmp_path / "out.onnx", PrepareOptions(labels=("a", "b")))
    assert described.precision == "int8"

"""Building plans with the real parser and builder of TensorRT-RTX, which need no GPU."""

import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from centernetd.errors import EngineError, ModelError, StoppedError
from centernetd.model import manifest as manifests
from centernetd.model.progress import LoggedProgress
from centernetd.plan import Binding, Profile, build, shared_logger
from centernetd.plan.build import kept_timings, why_refused
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports
from tests.plans import PROFILE, SIZE, heedless, prepared_squares, real_binding
from tests.test_batch_identity import KINDS, NETWORKS
from tests.test_clean import resized, with_heat
from tests.test_float16 import demo_frames

PRECISIONS = ("float32", "float16")


@pytest.fixture(scope="module")
def binding() -> Binding:
    return real_binding()


def build_file(
    path: Path, binding: Binding, profile: Profile = PROFILE, workspace: int | None = None
) -> bytes:
    size = manifests.read(path).input_size
    content = path.read_bytes()
    timings = path.with_suffix(".cache")
    return build(content, size, profile, binding, heedless, workspace=workspace, timings=timings)


@pytest.mark.parametrize(("layout", "precision"), KINDS)
def test_every_layout_can_be_built(
    layout: str, precision: str, binding: Binding, tmp_path: Path
) -> None:
    source = exports.write(NETWORKS[layout], tmp_path / "export.onnx")
    options = PrepareOptions(input_size=SIZE, precision=precision)
    frames = np.random.default_rng(7).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    prepare(source, tmp_path / "prepared.onnx", options, list(frames))
    assert len(build_file(tmp_path / "prepared.onnx", binding)) > 1000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_squares_can_be_built(precision: str, binding: Binding, tmp_path: Path) -> None:
    assert build_file(prepared_squares(tmp_path, precision=precision), binding)


def test_the_real_centerface_is_half_as_large_in_float16(
    centerface: Path, binding: Binding, tmp_path: Path
) -> None:
    sizes = []
    for precision in PRECISIONS:
        prepared = tmp_path / f"{precision}.onnx"
        prepare(centerface, prepared, PrepareOptions(input_size=(512, 512), precision=precision))
        sizes.append(len(build_file(prepared, binding, Profile(1, 4, 8))))
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_real_coco_can_be_built(
    precision: str, coco: Path, binding: Binding, tmp_path: Path
) -> None:
    prepare(coco, tmp_path / "prepared.onnx", PrepareOptions(precision=precision))
    assert build_file(tmp_path / "prepared.onnx", binding, Profile(1, 4, 8))


def test_the_real_centerface_can_be_built_in_int8(
    centerface: Path, binding: Binding, tmp_path: Path
) -> None:
    options = PrepareOptions(input_size=(192, 320), precision="int8")
    frames = list(demo_frames((192, 320), every=100))
    prepare(centerface, tmp_path / "int8.onnx", options, frames)
    assert build_file(tmp_path / "int8.onnx", binding, Profile(1, 4, 8))


def test_a_batch_taken_from_the_picture_for_a_resize_can_be_built(
    binding: Binding, tmp_path: Path
) -> None:
    source = exports.write(with_heat(resized, batch=1), tmp_path / "export.onnx")
    prepare(source, tmp_path / "prepared.onnx", PrepareOptions(input_size=SIZE))
    assert build_file(tmp_path / "prepared.onnx", binding)


def test_progress_is_reported_in_order_and_ends_whole(binding: Binding, tmp_path: Path) -> None:
    reported: dict[str, list[tuple[int, int]]] = {}

    def follow(phase: str, step: int, of: int) -> bool:
        reported.setdefault(phase, []).append((step, of))
        return True

    content = prepared_squares(tmp_path).read_bytes()
    build(content, SIZE, PROFILE, binding, follow, workspace=None, timings=tmp_path / "timings")
    assert len(reported) > 3
    for steps in reported.values():
        assert steps[0][0] == 0
        for (before, _), (now, of) in pairwise(steps):
            assert before <= now <= of or now == 0, "only a phase that comes again goes back"
        assert steps[-1][0] == steps[-1][1]


def test_a_build_can_be_stopped(binding: Binding, tmp_path: Path) -> None:
    content = prepared_squares(tmp_path).read_bytes()
    calls = []

    def stop(phase: str, step: int, of: int) -> bool:
        calls.append(phase)
        return False

    with pytest.raises(StoppedError):
        build(content, SIZE, PROFILE, binding, stop, workspace=None, timings=tmp_path / "timings")
    assert len(calls) == 1


def test_an_interrupt_while_following_comes_out_of_the_build(
    binding: Binding, tmp_path: Path
) -> None:
    def interrupt(phase: str, step: int, of: int) -> bool:
        raise KeyboardInterrupt

    content = prepared_squares(tmp_path).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        build(content, SIZE, PROFILE, binding, interrupt, workspace=None, timings=tmp_path / "t")


def test_a_line_is_logged_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("centernetd.model.progress.SECONDS_BETWEEN_LINES", 10.0)
    monkeypatch.setattr("centernetd.model.progress.time.monotonic", lambda: now[0])
    stopping = [False]
    reported: list[str] = []
    progress = LoggedProgress(reported.append, lambda: stopping[0])
    with caplog.at_level(logging.INFO):
        for now[0] in (100.0, 109.9, 110.0, 115.0, 121.0):
            assert progress("Timing", 3, 7)
        now[0] = 140.0
        assert progress("preparing raw.onnx", 0, 1)
    assert caplog.messages == [
        "Timing, 3 of 7 (10 s so far)",
        "Timing, 3 of 7 (21 s so far)",
        "preparing raw.onnx (40 s so far)",
    ]
    assert reported == caplog.messages
    stopping[0] = True
    assert not progress("Timing", 4, 7)


def spoilt(path: Path, node: onnx.NodeProto) -> Path:
    """Put a node into a prepared model that reads its scores."""
    model = onnx.load(path)
    (last,) = (item for item in model.graph.node if "detections" in item.output)
    node.input[0] = last.input[0]
    last.input[0] = node.output[0]
    model.graph.node.insert(list(model.graph.node).index(last), node)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_operator_that_tensorrt_lacks_is_named(binding: Binding, tmp_path: Path) -> None:
    node = helper.make_node("Bernoulli", [""], ["luck"], name="head/luck")
    path = spoilt(prepared_squares(tmp_path), node)
    with pytest.raises(ModelError) as refused:
        build_file(path, binding)
    assert str(refused.value) == (
        f"{binding} does not support its operator Bernoulli (node head/luck): it has no "
        "such operator; export the network without it, or made of other operators"
    )


def test_an_operator_used_as_tensorrt_cannot_is_explained(binding: Binding, tmp_path: Path) -> None:
    way = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}
    node = helper.make_node("Resize", ["", "", "scales"], ["resized"], **way)
    path = spoilt(prepared_squares(tmp_path), node)
    with pytest.raises(ModelError, match=r"operator Resize \(node \d+\): TensorRT only supp"):
        build_file(path, binding)


def test_what_the_builder_refuses_is_reported_without_its_source(
    binding: Binding, tmp_path: Path
) -> None:
    node = helper.make_node("TopK", ["", "thousands"], ["most", "which"], axis=1)
    path = spoilt(prepared_squares(tmp_path), node)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([5000]), "thousands"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"K exceeds the maximum value allowed \(3840\)$"):
        build_file(path, binding)


def test_what_is_no_onnx_is_refused(binding: Binding, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't read it: Failed to parse the ONNX model"):
        build(b"no", SIZE, PROFILE, binding, heedless, workspace=None, timings=tmp_path / "t")


def test_a_model_that_does_not_fit_its_profile_is_refused(binding: Binding, tmp_path: Path) -> None:
    content = prepared_squares(tmp_path).read_bytes()
    with pytest.raises(ModelError, match=r"can't build a plan from it: .*frames"):
        build(content, (8, 8), PROFILE, binding, heedless, workspace=None, timings=tmp_path / "t")


def test_too_little_memory_is_reported_with_how_much_is_needed(
    centerface: Path, binding: Binding, tmp_path: Path
) -> None:
    prepare(centerface, tmp_path / "prepared.onnx", PrepareOptions(input_size=(512, 512)))
    with pytest.raises(EngineError, match=r"needs \d{2,3} MB of GPU memory .* smaller batches"):
        build_file(tmp_path / "prepared.onnx", binding, Profile(1, 4, 8), workspace=20_000_000)


def test_measured_times_are_kept(binding: Binding, tmp_path: Path) -> None:
    trt = binding.trt
    logger = shared_logger(trt)
    path = tmp_path / "plans" / "timings"
    for stored in (None, b"not a timing cache"):
        if stored is not None:
            path.write_bytes(stored)
        config = trt.Builder(logger).create_builder_config()
        # TensorRT-RTX measures nothing and reports that, but takes and gives what the full one does
        with pytest.warns(DeprecationWarning, match="no-ops"), kept_timings(config, path):
            pass
        assert len(path.read_bytes()) > 20
        assert path.read_bytes() != stored


def test_one_logger_serves_every_build(
    binding: Binding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT would ignore a second one, and its errors could not be quoted any more."""
    other = binding.trt.Builder(shared_logger(binding.trt))
    with caplog.at_level(logging.DEBUG, logger="centernetd.tensorrt"):
        build_file(prepared_squares(tmp_path), binding)
    assert other.max_threads
    assert "Detected 1 inputs and 1 output" in caplog.text
    assert "differs from one already registered" not in caplog.text


# TensorRT's own words, as its parsers and builders gave them, and what is made of them.
MESSAGES = {
    "Assertion failed: creator: Plugin not found, are the plugin name, version, and namespace "
    "correct?": "it has no such operator",
    'creator && "Plugin not found, are the plugin name, version, and namespace correct?"': (
        "it has no such operator"
    ),
    "false": "it has no such operator",
    '(mode == "avg" || mode == "max") && "Mode must be avg or max!"': "Mode must be avg or max",
    '(mode == "a" || mode == "b") && "Takes only a and " "b modes!"': "Takes only a and b modes",
    "Invalid Node - x\nINetworkDefinition::addConvolutionNd: Error Code 3: API Usage Error "
    "(Invalid number of output channels: -1. In addConvolutionNd at /_src/network.cpp:1328)\n"
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (of no matter)": (
        "Invalid number of output channels: -1"
    ),
    "[x.cpp::f::2] Error Code 4: API Usage Error (K exceeds the maximum value allowed "
    "(3840). In processCheck at /_src/a.cpp:1066 In analyzeShapes at /_src/a.cpp:2825)": (
        "K exceeds the maximum value allowed (3840)"
    ),
    "": "it gives no reason",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_source_code_is_taken_out_of_messages(message: str) -> None:
    assert why_refused(message) == MESSAGES[message]

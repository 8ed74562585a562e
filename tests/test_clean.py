"""Defects of real exports are repaired: opsets, functions, shapes that contain a batch size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions
from tests import exports, reference
from tests.onnx_sessions import prepared_session, raw_outputs

SIZE = (64, 96)
BODY = exports.random_body(classes=2, seed=3)


def assert_prepared(raw: onnx.ModelProto, clean: onnx.ModelProto, folder: Path) -> None:
    """`raw`, prepared, gives on two frames what `clean`, decoded by the reference, does."""
    session = prepared_session(raw, folder, PrepareOptions(input_size=SIZE))
    frames = np.random.default_rng(2).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    (found,) = session.run(None, {"frames": frames})
    mean, std = np.array((0.408, 0.447, 0.470)), np.array((0.289, 0.274, 0.278))
    planes = ((frames / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    for row, heads in enumerate(raw_outputs(clean, planes)):
        reference.assert_same(found[row], None, reference.ctdet(*heads))


def with_heat(change: Callable[[Value], Value], batch: int | str = "batch") -> onnx.ModelProto:
    """The network whose heatmap goes through `change`."""

    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        return {"hm": change(heat), "wh": size, "reg": offset}

    return exports.export(build, SIZE, batch)


CLEAN = with_heat(lambda heat: heat)


def of_opset(version: int) -> onnx.ModelProto:
    """Operators that all opsets from 9 on have with the same inputs."""
    random = np.random.default_rng(3)
    nodes, constants = [], []
    for name, channels in (("hm", 2), ("wh", 2), ("reg", 2)):
        weights = random.normal(0, 0.1, (channels, 3, 8, 8)).astype(np.float32)
        constants.append(onnx.numpy_helper.from_array(weights, f"{name}.weight"))
        nodes.append(
            helper.make_node(
                "Conv", ["image", f"{name}.weight"], [name], pads=[2] * 4, strides=[4, 4]
            )
        )
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 16, 24])
        for name in ("hm", "wh", "reg")
    ]
    graph = helper.make_graph(nodes, "export", [image], results, constants)
    opset = helper.make_opsetid("", version)
    return helper.make_model(
        graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset])
    )


def newest_opset() -> int:
    """Return the newest that ONNX knows and ONNX Runtime runs, which for an old Python is old."""
    return next(
        version for version in range(onnx.defs.onnx_opset_version(), 9, -1) if runs(version)
    )


def runs(version: int) -> bool:
    opset = helper.make_opsetid("", version)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", [x], [y])
    newest = helper.find_min_ir_version_for([opset])
    model = helper.make_model(graph, opset_imports=[opset], ir_version=newest)
    try:
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # its exceptions have no common base
        return False
    return True


@pytest.mark.parametrize("version", range(9, newest_opset() + 1))
def test_opsets_from_9_on(version: int, tmp_path: Path) -> None:
    assert_prepared(of_opset(version), of_opset(17), tmp_path)


def test_upsample_of_opset_9(tmp_path: Path) -> None:
    def upsampled(old: bool) -> onnx.ModelProto:
        model = of_opset(9 if old else 17)
        model.graph.node[0].output[0] = "small"
        model.graph.node[0].attribute[1].ints[:] = [8, 8]
        scales = np.array([1, 1, 2, 2], np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(scales, "scales"))
        node = helper.make_node("Upsample", ["small", "scales"], ["hm"], mode="nearest")
        if not old:
            node = helper.make_node(
                "Resize", ["small", "", "scales"], ["hm"], mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )  # fmt: skip
        model.graph.node.append(node)
        return model

    attributes = [item.name for item in of_opset(9).graph.node[0].attribute]
    assert attributes == ["pads", "strides"]
    assert_prepared(upsampled(old=True), upsampled(old=False), tmp_path)


def resized(heat: Value) -> Value:
    """Resize to a constant [1, 2, 16, 24], after leaving out every other cell."""
    pooled = heat.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    nothing = heat.graph.tensor("")
    return pooled.then("Resize", nothing, nothing, heat.graph.constant([1, 2, 16, 24]))


def resized_by_scale(heat: Value) -> Value:
    pooled = heat.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    return pooled.then(
        "Resize", heat.graph.tensor(""), heat.graph.constant(np.array([1.0, 1.0, 2.0, 2.0]))
    )


def test_a_batch_in_the_sizes_of_a_resize(tmp_path: Path) -> None:
    assert_prepared(with_heat(resized, batch=1), with_heat(resized_by_scale), tmp_path)


def test_a_batch_in_a_shape_that_an_unsimplified_graph_puts_together(tmp_path: Path) -> None:
    def reshaped(heat: Value) -> Value:
        parts = []
        for length in (1, 2, -1):
            number = heat.graph.node("Constant", value_int=length)[0]
            parts.append(number.then("Unsqueeze", heat.graph.constant([0])))
        flat = heat.then("Reshape", heat.graph.concat(*parts, axis=0))
        return flat.reshape(1, 2, 16, 24)

    assert_prepared(with_heat(reshaped, batch=1), CLEAN, tmp_path)


def reshaped_as_torch_dynamo_does(heat: Value) -> Value:
    """Where a 0 means 0; what is empty, with one in its shape, adds nothing."""
    nothing = heat.part(0, 0, axis=1)
    nothing = nothing.then("Reshape", heat.graph.constant([1, 0, 16, 24]), allowzero=1)
    flat = heat.then("Reshape", heat.graph.constant([1, 2, -1]), allowzero=1)
    whole = flat.then("Reshape", heat.graph.constant([1, 2, 16, 24]), allowzero=1)
    return heat.graph.concat(whole, nothing, axis=1)


def test_a_batch_in_a_shape_where_0_is_no_wildcard(tmp_path: Path) -> None:
    assert_prepared(with_heat(reshaped_as_torch_dynamo_does, batch=1), CLEAN, tmp_path)


@pytest.mark.parametrize("declared", ["batch", 10, -1])
def test_a_batch_of_1_that_is_not_the_declared_one(declared: int | str, tmp_path: Path) -> None:
    """As written by an exporter with a dynamic axis that traces ``reshape(1, ...)``."""

    def running(heat: Value) -> Value:
        return heat.reshape(1, 2, -1).reshape(-1, 2, 24, 16).reshape(1, 2, 16, 24)

    def failing(heat: Value) -> Value:
        return heat.reshape(1, 2, 16, 24)

    for change in (running, failing):
        assert_prepared(with_heat(change, declared), CLEAN, tmp_path)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_constant_that_begins_with_1_has_no_batch(batch: int | str, tmp_path: Path) -> None:
    def scaled(heat: Value) -> Value:
        scales = heat.graph.constant(np.array([0.5, 1.5])).reshape(1, 2, 1, 1)
        baked = heat.reshape(1, 2, 16, 24)
        return baked * scales

    clean = with_heat(lambda heat: heat * np.array([0.5, 1.5], np.float32).reshape(1, 2, 1, 1))
    assert_prepared(with_heat(scaled, batch), clean, tmp_path)


def test_a_batch_in_an_expand(tmp_path: Path) -> None:
    def expanded(heat: Value) -> Value:
        return heat.then("Expand", heat.graph.constant([3, 2, 16, 24]))

    assert_prepared(with_heat(expanded, batch=3), CLEAN, tmp_path)


def test_a_shape_read_from_the_batch_stays_as_it_is(tmp_path: Path) -> None:
    def reshaped(heat: Value) -> Value:
        batch = heat.then("Shape").part(0, 1, axis=0)
        shape = heat.graph.concat(batch, heat.graph.constant([2, -1]), axis=0)
        return heat.then("Reshape", shape).reshape(0, 2, 16, 24)

    assert_prepared(with_heat(reshaped), CLEAN, tmp_path)


def test_functions_are_inlined(tmp_path: Path) -> None:
    """As torch's newer exporter leaves them."""
    raw = with_heat(lambda heat: heat.then("Twice", domain="pkg.torch"))
    opsets = [helper.make_opsetid("", 17)]
    double = helper.make_node("Add", ["x", "x"], ["y"])
    raw.functions.append(helper.make_function("pkg.torch", "Twice", ["x"], ["y"], [double], opsets))
    raw.opset_import.append(helper.make_opsetid("pkg.torch", 1))
    assert_prepared(raw, with_heat(lambda heat: heat + heat), tmp_path)

"""A frame gives the same alone and in a batch, or the network is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from centernetd.errors import ModelError
from centernetd.model.contract import is_same
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports
from tests.exports import Array

SIZE = (64, 96)
BODY = exports.random_body(classes=2, seed=3)
RANDOM = np.random.default_rng(5)


def detections(count: int = 20) -> Array:
    rows = RANDOM.uniform(0, 100, (count, 6)).astype(np.float32)
    rows[:, 4] = np.linspace(0.9, 0.3, count)
    rows[:, 5] = np.arange(count) % 3
    return rows


def test_order_and_rounding_do_not_count() -> None:
    rows = detections()
    other = rows + np.float32(1e-3)
    other[:, 5] = rows[:, 5]
    other[[3, 4]] = other[[4, 3]]
    assert is_same(rows, other)


def test_of_those_as_good_as_the_last_any_may_be_there() -> None:
    rows, other = detections(), detections()
    other[:5] = rows[:5]
    for side in (rows, other):
        side[5:, 4] = 0.5
    assert is_same(rows, other)
    other[:5, 0] += 10
    assert not is_same(rows, other)


def test_nothing_finite_is_the_same_as_that() -> None:
    rows = np.full((4, 6), np.inf, np.float32)
    assert is_same(rows, rows)
    assert not is_same(rows, detections(4))


@pytest.mark.parametrize("column", range(6))
def test_a_place_a_score_and_a_class_count(column: int) -> None:
    rows = detections()
    other = rows.copy()
    other[:, column] += 7 if column < 4 else 1
    assert not is_same(rows, other)


def test_keypoints_count() -> None:
    rows = detections()
    joints = RANDOM.uniform(0, 100, (20, 5, 3)).astype(np.float32)
    assert is_same(rows, rows, joints, joints)
    assert not is_same(rows, rows, joints, joints[::-1])


def mixed(head: str, change: Callable[[Value], Value]) -> onnx.ModelProto:
    """A network with a head that depends on the other frames of the batch."""

    def build(image: Value) -> dict[str, Value]:
        heads = dict(zip(("hm", "wh", "reg"), BODY(image), strict=True))
        heads[head] = heads[head] + change(heads[head])
        return heads

    return exports.export(build, SIZE)


def of_the_first(value: Value) -> Value:
    return value.part(0, 1, axis=0) * 3.0


def of_the_last(value: Value) -> Value:
    return value.part(-1, 2**31, axis=0) * 3.0


@pytest.mark.parametrize("change", [of_the_first, of_the_last])
@pytest.mark.parametrize("head", ["hm", "wh", "reg"])
def test_a_head_that_mixes_frames_is_refused(
    head: str, change: Callable[[Value], Value], tmp_path: Path
) -> None:
    source = exports.write(mixed(head, change), tmp_path / "export.onnx")
    with pytest.raises(
        ModelError, match="its detections of a frame depend on the rest of the batch"
    ):
        prepare(source, tmp_path / "out.onnx", PrepareOptions())


def test_joints_that_mix_frames_are_refused(tmp_path: Path) -> None:
    model = exports.multi_pose(SIZE)
    (node,) = [node for node in model.graph.node if node.output[0] == "hps"]
    node.output[0] = "own"
    for op, inputs, output in (
        ("ReduceSum", ["own", "axes"], "all"),
        ("Add", ["own", "all"], "hps"),
    ):
        model.graph.node.append(onnx.helper.make_node(op, inputs, [output]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "axes"))
    source = exports.write(model, tmp_path / "export.onnx")
    with pytest.raises(
        ModelError, match="its detections of a frame depend on the rest of the batch"
    ):
        prepare(source, tmp_path / "out.onnx", PrepareOptions())


def test_a_network_that_gives_no_number_is_refused(tmp_path: Path) -> None:
    source = exports.write(mixed("hm", lambda heat: heat * np.nan), tmp_path / "export.onnx")
    with pytest.raises(ModelError, match="none of its scores is a number: its weights are damaged"):
        prepare(source, tmp_path / "out.onnx", PrepareOptions())

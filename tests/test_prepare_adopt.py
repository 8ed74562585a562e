"""Models that come with the tensors of a prepared one, but don't keep its contract."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from centernetd.prepare.prepare import PrepareOptions
from tests import exports
from tests.test_prepare_refusals import refusal

SHAPE = ("batch", 16, 16, 3)
KEEP = helper.make_node("Identity", ["rows"], ["table"])
MIX = helper.make_node("CumSum", ["rows", "first"], ["table"])
CUT = helper.make_node("Slice", ["rows", "from", "one", "from"], ["table"])


def _foreign(
    element: int = TensorProto.UINT8,
    shape: tuple[int | str, ...] = SHAPE,
    columns: int = 6,
    rows: int = -1,
    mixing: onnx.NodeProto = KEEP,
) -> onnx.ModelProto:
    """Something else than a CenterNet that has, or nearly has, a prepared model's tensors."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "all"], ["rows"]),
        mixing,
        helper.make_node("Slice", ["table", "from", "to", "axes"], ["detections"]),
    ]
    constants = {
        "all": [rows, 2, 16 * 16 * 3 // 2],
        "from": [0],
        "to": [columns],
        "axes": [2],
        "one": [1],
        "first": 0,
    }
    frames = helper.make_tensor_value_info("frames", element, shape)
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, [None] * 3)
    tensors = [
        onnx.numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in constants.items()
    ]
    return helper.make_model(
        helper.make_graph(nodes, "foreign", [frames], [found], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


ADOPTIONS: dict[str, tuple[onnx.ModelProto, PrepareOptions, str]] = {
    "no labels": (_foreign(), PrepareOptions(), "with --labels FILE, or set labels_file"),
    "another size": (_foreign(), PrepareOptions(input_size=(8, 8)), "for an input of 16x16"),
    "another layout": (_foreign(), PrepareOptions(layout="flat"), "its layout can't be changed"),
    "float input": (
        _foreign(element=TensorProto.FLOAT),
        PrepareOptions(),
        "frames is not uint8 [batch, H, W, 3]",
    ),
    "fixed batch": (_foreign(shape=(1, 16, 16, 3)), PrepareOptions(), "with any batch"),
    "a size of nobody's memory": (
        _foreign(shape=("batch", 90000, 90000, 3)),
        PrepareOptions(),
        "90000x90000 is too large",
    ),
    "any size": (_foreign(shape=("batch", "h", "w", 3)), PrepareOptions(), "no fixed height"),
    "seven columns": (
        _foreign(columns=7),
        PrepareOptions(),
        "detections is not float32 [batch, K, 6]",
    ),
    "rows mixed": (
        _foreign(mixing=MIX),
        PrepareOptions(),
        "its detections of a frame depend on the rest of the batch",
    ),
    "first row only": (
        _foreign(mixing=CUT),
        PrepareOptions(),
        "batch size is fixed",
    ),
    "batch in a Reshape": (_foreign(rows=1), PrepareOptions(), "can't run on an input [2, 16,"),
}


@pytest.mark.parametrize("kind", ADOPTIONS)
def test_a_prepared_model_that_does_not_keep_the_contract(kind: str, tmp_path: Path) -> None:
    model, options, reason = ADOPTIONS[kind]
    source = exports.write(model, tmp_path / "model.onnx")
    sentence = refusal(source, options)
    assert sentence.startswith(f"{source}: ")
    assert reason in sentence

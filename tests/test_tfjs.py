"""A TensorFlow.js graph model as ONNX, against NumPy and, for the real one, TensorFlow.js."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from centernetd.errors import ModelError
from centernetd.prepare.tfjs import convert
from tests.onnx_sessions import open_session
from tests.tfjs import attribute, network, text

RECORD = Path(__file__).parent / "data" / "coco_tfjs.json"


def test_every_operator_gives_what_tensorflow_gives() -> None:
    model = network()
    converted = convert(*model.files(), {"hm": "tower/keypoints", "raw": "heads"})
    onnx.checker.check_model(converted, full_check=True)
    assert [output.name for output in converted.graph.output] == ["hm", "raw"]
    image = np.ascontiguousarray(model.image.transpose(0, 3, 1, 2))
    session = open_session(converted.SerializeToString())
    for name, found in zip(
        ("tower/keypoints", "heads"), session.run(None, {"image": image}), strict=True
    ):
        wanted = model.values[name].transpose(0, 3, 1, 2)
        assert np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_it_takes_inputs_of_other_sizes() -> None:
    """The factors of a resize are kept, not the sizes it was exported with."""
    larger = network((64, 32))
    converted = convert(*network().files(), {"hm": "tower/keypoints"})
    for axis, length in ((2, 64), (3, 32)):
        converted.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
    image = np.ascontiguousarray(larger.image.transpose(0, 3, 1, 2))
    (found,) = open_session(converted.SerializeToString()).run(None, {"image": image})
    wanted = larger.values["tower/keypoints"].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_only_what_is_wanted_is_converted() -> None:
    model = network()
    model.add("decode", "TopKV2", ["heads"], model.values["heads"])
    model.nodes.reverse()  # in any order
    assert convert(*model.files(), {"hm": "tower/keypoints"})


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("relu", {"op": "Elu"}, r"its operator Elu \(relu\) can't be converted"),
        ("mean", {"attr": attribute(keep_dims=False)}, r"its operator Mean \(mean\)"),
        ("add", {"input": ["first", "first/bias"]}, r"its operator Add \(add\)"),
        ("large", {"attr": attribute(align_corners=True, half_pixel_centers=False)}, "large align"),
        ("large", {"attr": attribute(align_corners=False, half_pixel_centers=True)}, "large align"),
    ],
)
def test_what_is_not_known_is_named(name: str, change: dict[str, object], reason: str) -> None:
    model = network()
    next(node for node in model.nodes if node["name"] == name).update(change)
    with pytest.raises(ModelError, match=reason):
        convert(*model.files(), {"hm": "tower/keypoints"})


@pytest.mark.parametrize("fused", [("BiasAdd", "Elu"), ("Relu",)])
def test_a_convolution_with_something_else_in_it(fused: tuple[str, ...]) -> None:
    model = network()
    first = next(node for node in model.nodes if node["name"] == "first")
    first["attr"]["fused_ops"] = {"list": {"s": [text(each)["s"] for each in fused]}}
    with pytest.raises(ModelError, match="its convolution first includes "):
        convert(*model.files(), {"hm": "tower/keypoints"})


def test_weights_of_another_kind_are_named() -> None:
    model = network()
    model.weights[0]["quantization"] = {"dtype": "uint8", "scale": 0.1, "min": 0}
    with pytest.raises(ModelError, match="its weights first/weights are stored as uint8"):
        convert(*model.files(), {"hm": "tower/keypoints"})


def test_the_real_one_gives_what_tensorflow_js_gives(coco: Path) -> None:
    """See scripts/record_tfjs.js."""
    record = json.loads(RECORD.read_text())
    numbers = np.arange(512 * 512 * 3, dtype=np.int64)
    image = (numbers * numbers % 251).reshape(1, 512, 512, 3).astype(np.float32)
    planes = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    heat, sides = open_session(coco).run(["hm", "wh"], {"image": planes})
    for name, found, within in (("hm", heat, 1e-6), ("wh", sides, 0.01)):
        values = found.transpose(0, 2, 3, 1).reshape(-1)[:: record["every"]]
        np.testing.assert_allclose(values, record[name], atol=within)

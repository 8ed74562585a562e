"""Deformable convolution in GridSample form against torchvision's own, recorded.

`scripts/record_deform_conv.py` made the record, and compares it with torchvision's again.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from centernetd.errors import ModelError
from centernetd.prepare.deform import adopt_plugins, rewrite_deform_conv
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions
from tests import exports
from tests.exports import Array
from tests.onnx_sessions import open_session, prepared_session

RECORD = Path(__file__).parent / "data" / "deform_conv.npz"
OF_CENTERNET = "as CenterNet has it"


def cases() -> dict[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {}
    with np.load(RECORD) as arrays:
        for key in arrays:
            case, name = key.split("/")
            found.setdefault(case, {})[name] = arrays[key]
    return found


CASES = cases()


def model(
    case: dict[str, Array], node: onnx.NodeProto, opset: int, *domains: str, constant: bool = True
) -> ModelProto:
    """A model of one node; inputs by their names in the record, the batch free."""
    given = [name for name in node.input if name]
    stored = [name for name in given if name in ("kernel", "bias") and constant]
    inputs = [
        helper.make_tensor_value_info(
            name,
            TensorProto.FLOAT,
            case[name].shape if name in ("kernel", "bias") else ["batch", *case[name].shape[1:]],
        )
        for name in given
        if name not in stored
    ]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", None, None, None])
    weights = [numpy_helper.from_array(case[name], name) for name in stored]
    return helper.make_model(
        helper.make_graph([node], "deform", inputs, [result], weights),
        opset_imports=[
            helper.make_opsetid(domain, version)
            for domain, version in [("", opset), *((domain, 1) for domain in domains)]
        ],
        ir_version=8,
    )


def standard(case: dict[str, Array]) -> onnx.NodeProto:
    attributes = [int(value) for value in case["attributes"]]
    names = ["source", "kernel", "offset", "bias", "mask"]
    return helper.make_node(
        "DeformConv",
        [name if name in case else "" for name in names],
        ["result"],
        strides=attributes[:2],
        pads=attributes[2:4] * 2,
        dilations=attributes[4:6],
        group=attributes[6],
        offset_group=attributes[7],
    )


def assert_equal(rewritten: ModelProto, case: dict[str, Array]) -> None:
    onnx.checker.check_model(rewritten, full_check=True)
    assert {node.op_type for node in rewritten.graph.node}.isdisjoint({"DeformConv", "DCNv2"})
    session = open_session(rewritten.SerializeToString())
    feeds = {value.name: case[value.name] for value in session.get_inputs()}
    (found,) = session.run(None, feeds)
    np.testing.assert_allclose(found, case["result"], atol=1e-4, rtol=0)
    one = {
        name: value if name in ("kernel", "bias") else value[1:] for name, value in feeds.items()
    }
    (alone,) = session.run(None, one)
    np.testing.assert_allclose(alone, case["result"][1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("opset", [19, 22])
@pytest.mark.parametrize("name", CASES)
def test_it_equals_torchvision(name: str, opset: int) -> None:
    rewritten = model(CASES[name], standard(CASES[name]), opset)
    rewrite_deform_conv(rewritten)
    assert_equal(rewritten, CASES[name])


def test_weights_may_be_computed() -> None:
    rewritten = model(CASES["groups"], standard(CASES["groups"]), 19, constant=False)
    rewrite_deform_conv(rewritten)
    assert_equal(rewritten, CASES["groups"])


DCN_V2 = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "deformable_group": 1}
MMCV = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "deform_groups": 1}


@pytest.mark.parametrize(
    ("operator", "domain", "attributes"),
    [
        ("DCNv2", "", DCN_V2),
        ("DCNv2Plugin", "", {"padding": 1, "deformable_groups": 1, "out_channel": 12}),
        ("MMCVModulatedDeformConv2d", "mmcv", MMCV),
    ],
)
def test_plugins_of_an_old_opset(operator: str, domain: str, attributes: dict[str, Any]) -> None:
    case = CASES[OF_CENTERNET]
    names = ["source", "offset", "mask", "kernel", "bias"]
    node = helper.make_node(operator, names, ["result"], domain=domain, **attributes)
    rewritten = model(case, node, 11, *([domain] if domain else []))
    adopt_plugins(rewritten)
    rewritten = onnx.version_converter.convert_version(rewritten, 17)
    rewrite_deform_conv(rewritten)
    assert_equal(rewritten, case)
    assert [entry.domain for entry in rewritten.opset_import] == [""]


def test_a_plugin_without_modulation() -> None:
    case = {**CASES[OF_CENTERNET], **CASES["groups"]}
    node = helper.make_node(
        "MMCVDeformConv2d",
        ["source", "offset", "kernel"],
        ["result"],
        domain="mmcv",
        stride=[2, 2],
        padding=[2, 2],
        dilation=[2, 2],
        groups=4,
        deform_groups=1,
        im2col_step=32,
    )
    rewritten = model(case, node, 17, "mmcv")
    rewrite_deform_conv(rewritten)
    session = open_session(rewritten.SerializeToString())
    (found,) = session.run(None, {name: case[name] for name in ("source", "offset")})
    expected = case["result"] - case["bias"].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_a_plugin_of_another_make_is_refused() -> None:
    case = CASES[OF_CENTERNET]
    node = helper.make_node("DCNv2", ["source", "offset", "kernel"], ["result"], info="{}")
    with pytest.raises(ModelError, match=r"its DCNv2 has 3 inputs and the attributes info"):
        rewrite_deform_conv(model(case, node, 17))


def test_a_free_size_is_refused() -> None:
    case = CASES[OF_CENTERNET]
    free = model(case, standard(case), 19)
    for dim in free.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "any"
    with pytest.raises(ModelError, match=r"the size of source, .* is not known"):
        rewrite_deform_conv(free)


def test_a_model_without_any_is_left_alone() -> None:
    node = helper.make_node("Relu", ["source"], ["result"])
    plain = model(CASES[OF_CENTERNET], node, 17)
    before = plain.SerializeToString()
    rewrite_deform_conv(plain)
    assert plain.SerializeToString() == before


@pytest.mark.parametrize("operator", ["DeformConv", "DCNv2"])
def test_prepare_takes_it_for_what_it_is(operator: str, tmp_path: Path) -> None:
    """Without offsets it is a convolution, and such a network finds the same."""
    size = (64, 96)
    kernel = np.random.default_rng(4).normal(0, 0.5, (3, 3, 3, 3)).astype(np.float32)
    heads = exports.random_body(classes=2, seed=3)
    frames = np.random.default_rng(5).integers(0, 256, (2, *size, 3), dtype=np.uint8)

    def plain(image: Value) -> tuple[Value, Value, Value]:
        return heads(image.then("Conv", image.graph.constant(kernel), pads=[1, 1, 1, 1]))

    def deformable(image: Value) -> tuple[Value, Value, Value]:
        weights = image.graph.constant(kernel)
        nothing = image.pick([0] * 18, axis=1) * 0.0
        whole = nothing.part(0, 9, axis=1) + 1.0
        bias = image.graph.constant(np.zeros(3, np.float32))
        if operator == "DCNv2":
            given = {"stride": 1, "padding": 1, "dilation": 1, "deformable_group": 1}
            return heads(image.then(operator, nothing, whole, weights, bias, **given))
        return heads(image.then(operator, weights, nothing, bias, whole, pads=[1, 1, 1, 1]))

    options = PrepareOptions(input_size=size)
    found = []
    for body, opset in ((plain, 17), (deformable, 17 if operator == "DCNv2" else 19)):
        export = exports.ctdet(body, size)
        export.opset_import[0].version = opset
        (detections,) = prepared_session(export, tmp_path, options).run(None, {"frames": frames})
        found.append(detections)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)

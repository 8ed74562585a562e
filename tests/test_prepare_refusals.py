"""What can't be prepared: one sentence each, naming the file, and nothing written."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from centernetd.errors import CenternetdError, ModelError, StartupError
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, models

SIZE = (64, 96)
BODY = exports.random_body(classes=2, seed=3)


def refusal(source: Path, options: PrepareOptions, kind: type[CenternetdError] = ModelError) -> str:
    """The sentence with which `source` is refused; nothing may be left next to it."""
    before = set(source.parent.iterdir())
    with pytest.raises(kind) as caught:
        prepare(source, source.parent / "out.onnx", options)
    assert set(source.parent.iterdir()) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an ONNX file"),
    "text": (b"weights: none\n" * 50, "not an ONNX file"),
    "zeros": (bytes(1000), "not an ONNX file"),
    "truncated": (exports.centerface().SerializeToString()[:-2000], "or truncated"),
    "checkpoint": (b"PK\x03\x04" + bytes(500), "a PyTorch checkpoint, not an ONNX file"),
    "old checkpoint": (b"\x80\x02\x8a\nl\xfc", "with `centernetd export`"),
    "no network": (onnx.ModelProto(ir_version=8).SerializeToString(), "contains no network"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_holds_no_network(kind: str, tmp_path: Path) -> None:
    content, reason = FILES[kind]
    source = tmp_path / "model.onnx"
    source.write_bytes(content)
    sentence = refusal(source, PrepareOptions())
    assert sentence.startswith(f"{source}: ")
    assert reason in sentence


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.onnx", PrepareOptions()).endswith("no.onnx: no such model file")


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "can't be read" in refusal(folder, PrepareOptions())


def test_external_weights_that_are_gone(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    onnx.save(exports.centerface(), source, save_as_external_data=True, location="model.data")
    (tmp_path / "model.data").unlink()
    assert "external weights can't be read" in refusal(source, PrepareOptions())


def _with_input(element: int, shape: list[int | str]) -> onnx.ModelProto:
    model = exports.ctdet(BODY, SIZE)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", element, shape))
    return model


def _two_inputs() -> onnx.ModelProto:
    model = exports.ctdet(BODY, SIZE)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    return model


def _odd_heads(channels: tuple[int, ...]) -> onnx.ModelProto:
    def build(image: Value) -> dict[str, Value]:
        table = image.then("AveragePool", kernel_shape=[4, 4], strides=[4, 4])
        return {
            f"out{index}": table.pick([0] * count, axis=1) for index, count in enumerate(channels)
        }

    return exports.export(build, SIZE)


def _cut() -> onnx.ModelProto:
    """A batch of 1 in a place that can't be repaired, at the end of the network."""

    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        return {"hm": heat.part(0, 1, axis=0), "wh": size, "reg": offset}

    return exports.export(build, SIZE, batch=1)


def _with_operators(**domains: str) -> onnx.ModelProto:
    model = exports.ctdet(BODY, SIZE)
    for op, domain in domains.items():
        model.graph.node.append(helper.make_node(op, ["hm"], [f"{op}_out"], domain=domain))
    model.opset_import.extend(
        helper.make_opsetid(domain, 1) for domain in set(domains.values()) if domain
    )
    return model


def _without_rank() -> onnx.ModelProto:
    model = exports.ctdet(BODY, SIZE)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def _integer_head() -> onnx.ModelProto:
    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        return {"hm": heat.cast(TensorProto.INT32), "wh": size, "reg": offset}

    model = exports.export(build, SIZE)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    return model


def _undefined() -> onnx.ModelProto:
    model = exports.centerface()
    model.graph.node[0].input[1] = "no\nsuch"
    return model


NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], PrepareOptions, str]] = {
    "size off the stride": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(input_size=(62, 96)),
        "62x96 is not divisible by 4",
    ),
    "size of nobody's memory": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(input_size=(90000, 90000)),
        "an input size of 90000x90000 is too large: give it 4096x4096 at most",
    ),
    "size that the network can't take": (
        lambda: exports.flat(BODY, SIZE, batch=1),
        PrepareOptions(input_size=(64, 64)),
        "can't run on an input [2, 3, 64, 64]",
    ),
    "too few labels": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(labels=("one",)),
        "2 classes, but 1 labels",
    ),
    "too many labels": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(labels=("one", "two", "three")),
        "2 classes, but 3 labels",
    ),
    "unknown layout": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(layout="yolo"),
        "unknown layout yolo; there are ctdet, multi_pose, flat, flat_pool, centerface",
    ),
    "wrong layout": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(layout="centerface"),
        "hm [batch, 2, 16, 24], wh [batch, 2, 16, 24], reg [batch, 2, 16, 24]",
    ),
    "no layout fits": (
        lambda: _odd_heads((3, 7)),
        PrepareOptions(),
        "out0 [batch, 3, 16, 24], out1 [batch, 7, 16, 24] over a grid of 16x24 cells fit no layout",
    ),
    "three heads without names": (
        lambda: _odd_heads((3, 2, 2)),
        PrepareOptions(),
        "declare it with --layout ctdet --head hm=out0 --head wh=out1 --head reg=out2",
    ),
    "a table without pooling": (
        lambda: exports.flat(BODY, SIZE, pooled=False),
        PrepareOptions(),
        "with --layout flat --head table=output or --layout flat_pool --head table=output",
    ),
    "two inputs": (_two_inputs, PrepareOptions(), "it has 2 inputs"),
    "operators of its own": (
        lambda: _with_operators(Plugin_TRT="", BatchedNMS="my.domain", FusedConv="com.microsoft"),
        PrepareOptions(),
        "operators that ONNX doesn't define (Plugin_TRT, BatchedNMS of my.domain): export it",
    ),
    "any rank": (_without_rank, PrepareOptions(), "image has no declared rank"),
    "channels last": (
        lambda: _with_input(TensorProto.FLOAT, ["batch", 64, 96, 3]),
        PrepareOptions(),
        "image is not a picture [batch, 3, H, W]",
    ),
    "float16": (
        lambda: _with_input(TensorProto.FLOAT16, ["batch", 3, 64, 96]),
        PrepareOptions(),
        "image is not float32",
    ),
    "a head of integers": (_integer_head, PrepareOptions(), "hm is not float32"),
    "a batch cut to 1": (_cut, PrepareOptions(), "hm has a fixed batch size"),
    "a tensor from nowhere": (_undefined, PrepareOptions(), "from opset 9 to 17"),
    "top_k of 0": (lambda: exports.ctdet(BODY, SIZE), PrepareOptions(top_k=0), "top_k must be"),
    "std of 0": (
        lambda: exports.ctdet(BODY, SIZE),
        PrepareOptions(std=(0.0, 1.0, 1.0)),
        "std must be three numbers other than 0",
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_that_can_not_be_prepared(kind: str, tmp_path: Path) -> None:
    build, options, reason = NETWORKS[kind]
    source = exports.write(build(), tmp_path / "model.onnx")
    sentence = refusal(source, options)
    assert sentence.startswith(f"{source}: ")
    assert reason in sentence


def test_an_output_that_can_not_be_written(tmp_path: Path) -> None:
    source = exports.write(models.squares((64, 64)), tmp_path / "model.onnx")
    (tmp_path / "out.onnx").mkdir()
    assert "out.onnx: can't be written" in refusal(source, PrepareOptions(), StartupError)


def test_another_number_of_labels_for_a_prepared_model(tmp_path: Path) -> None:
    source = exports.write(models.squares((64, 64)), tmp_path / "raw.onnx")
    prepare(source, tmp_path / "prepared.onnx", PrepareOptions())
    sentence = refusal(tmp_path / "prepared.onnx", PrepareOptions(labels=("one",)))
    assert sentence.endswith("it has 3 classes, but 1 labels are given")

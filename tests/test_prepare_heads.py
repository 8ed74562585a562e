"""Identifying outputs: by name, by position, or as declared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from centernetd.errors import ModelError
from centernetd.model import labels, manifest
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, reference
from tests.commandline import CommandLine
from tests.onnx_sessions import open_session, prepared_session, raw_outputs

SIZE = (64, 96)
BODY = exports.random_body(classes=2, seed=3)


def named(*names: str, extra: str | None = None) -> onnx.ModelProto:
    """Heat, size and offset in this order under other names, and maybe one output more."""

    def build(image: Value) -> dict[str, Value]:
        outputs = dict(zip(names, BODY(image), strict=True))
        if extra:
            outputs[extra] = outputs[names[0]].then("Neg")
        return outputs

    return exports.export(build, SIZE)


def refusal(raw: onnx.ModelProto, folder: Path, options: PrepareOptions | None = None) -> str:
    source = exports.write(raw, folder / "export.onnx")
    with pytest.raises(ModelError) as refused:
        prepare(source, folder / "out.onnx", options or PrepareOptions())
    return str(refused.value)


def assert_decoded(raw: onnx.ModelProto, options: PrepareOptions, folder: Path) -> None:
    """The heads are taken for what they are."""
    session = prepared_session(raw, folder, options)
    described = manifest.read(folder / "prepared.onnx")
    frames = np.random.default_rng(2).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    (found,) = session.run(None, {"frames": frames})
    mean, std = np.array(described.mean), np.array(described.std)
    planes = ((frames / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    (heads,) = raw_outputs(raw, planes)
    reference.assert_same(found[0], None, reference.ctdet(*heads[:3]))


def test_declared_heads_win_over_their_names_and_places(tmp_path: Path) -> None:
    raw = named("reg", "hm", "wh", extra="more")
    heads = (("hm", "reg"), ("wh", "hm"), ("reg", "wh"))
    assert_decoded(raw, PrepareOptions(heads=heads), tmp_path)


def test_a_declared_layout_takes_heads_in_its_order(tmp_path: Path) -> None:
    assert_decoded(named("a", "b", "c"), PrepareOptions(layout="ctdet"), tmp_path)
    assert_decoded(named("hm", "wh", "offset"), PrepareOptions(layout="ctdet"), tmp_path)


def test_a_name_in_another_place_is_not_overruled(tmp_path: Path) -> None:
    raw = named("hm", "offset", "wh")
    assert "don't fit the layout ctdet" in refusal(raw, tmp_path, PrepareOptions(layout="ctdet"))


def test_an_output_that_may_be_the_missing_offset_is_asked_about(tmp_path: Path) -> None:
    sentence = refusal(named("hm", "wh", "offset"), tmp_path)
    assert "hm [batch, 2, 16, 24], wh [batch, 2, 16, 24], offset [batch, 2, 16, 24]" in sentence
    assert "--layout ctdet --head hm=hm --head wh=wh --head reg=offset" in sentence


def test_what_fits_no_layout_is_listed_with_the_options_to_declare_it(tmp_path: Path) -> None:
    sentence = refusal(named("a", "b", "c", extra="d"), tmp_path)
    assert "d [batch, 2, 16, 24]" in sentence
    assert "--layout ctdet --head hm=NAME --head wh=NAME [--head reg=NAME] or " in sentence
    assert "--layout multi_pose --head hm=NAME --head wh=NAME --head hps=NAME [" in sentence


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        ((("hm", "x"),), "it has no output x; there are a [batch, 2, 16, 24], b "),
        ((("heatmap", "a"),), "no layout has a head heatmap; there are boxes, heat, hm, "),
        ((("hm", "a"), ("wh", "b"), ("hps", "c")), "--layout ctdet"),
    ],
)
def test_missing_heads(heads: tuple[tuple[str, str], ...], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(named("a", "b", "c"), tmp_path, PrepareOptions(heads=heads))


def test_the_command_line_declares_heads_and_labels(cli: CommandLine, tmp_path: Path) -> None:
    source = exports.write(named("a", "b", "c"), tmp_path / "export.onnx")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    out = tmp_path / "out.onnx"
    heads = ["--head", "hm=a", "--head", "wh=b", "--head", "reg=c"]
    assert cli("prepare", source, "-o", out, *heads, "--labels", names).code == 0
    assert cli("prepare", out, "--show").json["labels"] == ["cat", "dog"]
    assert open_session(out)
    outcome = cli("prepare", source, "-o", out, *heads, "--labels", "coco")
    assert (outcome.code, "2 classes, but 80 labels" in outcome.err) == (78, True)
    outcome = cli("prepare", source, "-o", out, "--head", "hm")
    assert (outcome.code, "write ROLE=NAME" in outcome.err) == (2, True)


@pytest.mark.parametrize(("classes", "first"), [(80, "person"), (20, "aeroplane"), (3, "class_0")])
def test_default_labels(classes: int, first: str, tmp_path: Path) -> None:
    raw = exports.ctdet(exports.random_body(classes, seed=1), SIZE)
    described = prepare(
        exports.write(raw, tmp_path / "export.onnx"), tmp_path / "out.onnx", PrepareOptions()
    )
    assert len(described.labels) == classes
    assert described.labels[0] == first


def test_the_named_label_sets_are_whole() -> None:
    assert {name: len(set(known)) for name, known in labels.NAMED.items()} == {
        "coco": 80,
        "voc": 20,
    }
    assert len(set(labels.COCO_JOINTS)) == 17
    assert tuple(sorted(labels.VOC)) == labels.VOC


def _integers(heat: Value) -> Value:
    return heat.cast(TensorProto.INT64)


def _one_number(heat: Value) -> Value:
    return heat.then("ReduceMean", keepdims=0)


def _fixed_batch(heat: Value) -> Value:
    return heat.part(0, 1, axis=0)


def _sequence(heat: Value) -> Value:
    return heat.then("SplitToSequence", axis=1)


def with_extra_output(extra: Callable[[Value], Value], *names: str) -> onnx.ModelProto:
    """Heat, size and offset, and an output of no use, whose type is left to the runtime."""

    def build(image: Value) -> dict[str, Value]:
        outputs = dict(zip(names, BODY(image), strict=True))
        return {"more": extra(outputs[names[0]]), **outputs}

    model = exports.export(build, SIZE)
    kind = TensorProto.INT64 if extra is _integers else TensorProto.FLOAT
    declared = model.graph.output[0].type
    declared.tensor_type.elem_type = kind
    if extra is _sequence:
        declared.sequence_type.elem_type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("extra", [_integers, _one_number, _fixed_batch, _sequence])
def test_an_output_that_nobody_needs_may_be_anything(
    extra: Callable[[Value], Value], precision: str, tmp_path: Path
) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    found = []
    for raw, heads in (
        (named("hm", "wh", "reg"), ()),
        (with_extra_output(extra, "hm", "wh", "reg"), ()),
        (with_extra_output(extra, "a", "b", "c"), (("hm", "a"), ("wh", "b"), ("reg", "c"))),
    ):
        session = prepared_session(raw, tmp_path, PrepareOptions(heads=heads, precision=precision))
        found.append(session.run(["detections"], {"frames": frames})[0])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_outputs_that_can_be_no_head_are_reported_if_no_layout_fits(tmp_path: Path) -> None:
    sentence = refusal(with_extra_output(_integers, "a", "b", "c"), tmp_path)
    assert "its output more is not float32: export it in float32; its outputs a [batch" in sentence


def test_a_head_by_its_name_is_not_passed_over(tmp_path: Path) -> None:
    """Without its ``hps``, a network of persons' joints would look like one of boxes."""
    raw = exports.multi_pose(SIZE)
    (node,) = [node for node in raw.graph.node if node.output[0] == "hps"]
    cast = onnx.helper.make_node("Cast", ["floats"], ["hps"], to=TensorProto.INT64)
    node.output[0] = "floats"
    raw.graph.node.append(cast)
    (output,) = [output for output in raw.graph.output if output.name == "hps"]
    output.type.tensor_type.elem_type = TensorProto.INT64
    assert "its output hps is not float32" in refusal(raw, tmp_path)


def test_cells_other_than_a_quarter_of_the_input(tmp_path: Path) -> None:
    """As a network gives that halves its input more often than that can be halved."""

    def build(image: Value) -> dict[str, Value]:
        grown = image.then("Pad", image.graph.constant([0, 0, 0, 0, 0, 0, 28, 20]))
        return dict(zip(("hm", "wh", "reg"), BODY(grown), strict=True))

    padded = exports.export(build, ("height", "width"))
    sentence = refusal(padded, tmp_path, PrepareOptions(input_size=(36, 44)))
    assert "for an input of 36x44 its outputs have 16x16 cells instead of 9x11" in sentence
    assert sentence.endswith("choose an --input-size that allows this, such as 32x32")
    assert sentence.count("--input-size") == 1
    assert "--input-size" not in refusal(padded, tmp_path)

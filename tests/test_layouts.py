"""What is particular to a layout: how it is recognised, what must be declared, what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from centernetd.errors import ModelError
from centernetd.model import manifest as manifests
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, reference
from tests.exports import Array
from tests.onnx_sessions import prepared_session, raw_outputs

SIZE = (64, 96)
BODY = exports.random_body(classes=3, seed=3)
COLOURS = ("red", "green", "blue")
RAW = replace(exports.RAW_PIXELS, input_size=SIZE)
FRAMES = np.random.default_rng(2).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
PLANES = FRAMES.transpose(0, 3, 1, 2).astype(np.float32)


def found(
    raw: ModelProto, folder: Path, options: PrepareOptions
) -> tuple[Array, list[list[Array]]]:
    """Return the detections in `FRAMES`, and the network's own outputs for them."""
    (detections,) = prepared_session(raw, folder, options).run(None, {"frames": FRAMES})
    return detections, raw_outputs(raw, PLANES)


def refusal(raw: ModelProto, folder: Path, options: PrepareOptions = RAW) -> str:
    """Return the sentence with which `raw` is refused, without the file's name."""
    source = exports.write(raw, folder / "export.onnx")
    with pytest.raises(ModelError) as caught:
        prepare(source, folder / "out.onnx", options)
    sentence = str(caught.value).removeprefix(f"{source}: ")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("scale", [None, 16.0])
@pytest.mark.parametrize("stride", [None, 2, 8])
def test_ltrb_with_a_stride_and_a_scale(
    stride: int | None, scale: float | None, tmp_path: Path
) -> None:
    random = np.random.default_rng(4)
    rows, columns = (side // (stride or 4) for side in SIZE)
    heat = random.normal(0, 2, (2, 3, rows, columns)).astype(np.float32)
    sides = random.uniform(-1, 9, (2, 4, rows, columns)).astype(np.float32)
    frames = np.zeros((2, *SIZE, 3), np.uint8)
    frames[1, 0, 0, 0] = 1
    options = replace(RAW, stride=stride, scale=scale)
    raw = exports.export(exports.stored({"hm": heat, "wh": sides}), SIZE)
    (rows_found,) = prepared_session(raw, tmp_path, options).run(None, {"frames": frames})
    assert manifests.read(tmp_path / "prepared.onnx").layout == "ltrb"
    for index, detections in enumerate(rows_found):
        expected = reference.ltrb(heat[index], sides[index] * (scale or 1), stride or 4)
        reference.assert_same(detections, None, expected)


def test_ltrb_after_a_sigmoid(tmp_path: Path) -> None:
    """Nothing is applied twice."""
    plain, _ = found(exports.ltrb(BODY, SIZE), tmp_path, RAW)
    activated, _ = found(exports.ltrb(BODY, SIZE, activated=True), tmp_path, RAW)
    np.testing.assert_array_equal(plain, activated)


def test_ltrb_of_two_classes_could_be_ctdet(tmp_path: Path) -> None:
    raw = exports.ltrb(exports.random_body(classes=2, seed=3), SIZE)
    sentence = refusal(raw, tmp_path)
    ways = "--layout ctdet --head hm=hm --head wh=wh [--head reg=NAME] or --layout ltrb"
    assert f"declare it with {ways} --head hm=hm --head wh=wh" in sentence
    detections, [(heat, sides), _] = found(raw, tmp_path, replace(RAW, layout="ltrb"))
    reference.assert_same(detections[0], None, reference.ltrb(heat, sides))
    assert found(raw, tmp_path, replace(RAW, layout="ctdet"))


def test_end2end_keeps_the_best_rows_in_order(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    table = random.uniform(0, 60, (2, 40, 6)).astype(np.float32)
    table[..., 4], table[..., 5] = random.uniform(0, 1, (2, 40)), random.integers(0, 3, (2, 40))
    raw = exports.export(exports.stored({"output0": table}), SIZE)
    frames = np.zeros((2, *SIZE, 3), np.uint8)
    frames[1, 0, 0, 0] = 1
    for top_k, count in ((None, 40), (7, 7)):
        options = replace(RAW, layout="end2end", labels=COLOURS, top_k=top_k)
        (rows_found,) = prepared_session(raw, tmp_path, options).run(None, {"frames": frames})
        assert rows_found.shape == (2, count, 6)
        for detections, expected in zip(rows_found, map(reference.end2end, table), strict=True):
            reference.assert_same(detections, None, expected)


def test_a_table_per_anchor_is_not_taken_for_end2end(tmp_path: Path) -> None:
    """A YOLOv5 of one class has six columns too: cx, cy, w, h, objectness, score."""

    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        maps = image.graph.concat(size, offset, heat, axis=1).part(0, 6, axis=1)
        return {"output0": maps.reshape(0, 0, -1).transpose(0, 2, 1)}

    assert "--layout end2end --head rows=output0" in refusal(exports.export(build, SIZE), tmp_path)


def without_names(raw: ModelProto, text: str | None = None) -> ModelProto:
    del raw.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(raw, {"names": text})
    return raw


def test_the_labels_of_end2end_come_from_the_exporter_or_the_user(tmp_path: Path) -> None:
    raw = exports.end2end(BODY, SIZE, COLOURS)
    source = exports.write(raw, tmp_path / "export.onnx")
    assert prepare(source, tmp_path / "out.onnx", RAW).labels == COLOURS
    given = replace(RAW, labels=("a", "b"))
    assert prepare(source, tmp_path / "out.onnx", given).labels == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [None, "", "{0: 'red'", "['red']", "{1: 'red'}", "red()", "[" * 9999, "'" + "x" * 70000 + "'"],
)
def test_end2end_without_labels(text: str | None, tmp_path: Path) -> None:
    raw = without_names(exports.end2end(BODY, SIZE, COLOURS), text)
    assert refusal(raw, tmp_path).endswith(
        "name its classes: prepare it with --labels FILE, or set labels_file"
    )


def of_one(raw: ModelProto) -> ModelProto:
    """Declare a batch of 1."""
    raw.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return raw


def test_a_batch_of_1_that_is_baked_in_is_made_dynamic(tmp_path: Path) -> None:
    for raw in (exports.end2end(BODY, SIZE, COLOURS), exports.queries(BODY, SIZE)):
        for tensor in raw.graph.initializer:  # a 0 keeps the batch
            shape = onnx.numpy_helper.to_array(tensor)
            if shape.dtype == np.int64 and shape.ndim == 1 and len(shape) == 3 and shape[0] == 0:
                baked = np.array([1, *shape[1:]])
                tensor.CopyFrom(onnx.numpy_helper.from_array(baked, tensor.name))
        detections, heads = found(of_one(raw), tmp_path, RAW)
        assert len(detections) == 2
        assert len(heads) == 2


def test_a_batch_of_1_inside_the_selection_is_refused(tmp_path: Path) -> None:
    """As YOLOv10 is exported for a fixed batch: ``boxes[torch.arange(1)[:, None], index]``."""

    def build(image: Value) -> dict[str, Value]:
        heat, size, _ = BODY(image)
        graph = image.graph
        table = graph.concat(size, size, heat.then("Sigmoid"), axis=1).part(0, 6, axis=1)
        table = table.reshape(0, 0, -1).transpose(0, 2, 1)
        _, row = table.part(4, 5, axis=2).reshape(0, -1).top(30)
        zeros = graph.constant(np.zeros((1, 30, 1), np.int64))
        place = row.then("Unsqueeze", graph.constant([2]))
        zeros = zeros.then("Expand", place.then("Shape"))
        return {"output0": table.then("GatherND", graph.concat(zeros, place, axis=2))}

    raw = of_one(exports.export(build, SIZE))
    sentence = refusal(raw, tmp_path, replace(RAW, labels=COLOURS))
    assert sentence.endswith("depend on the rest of the batch: export it with a dynamic batch")


@pytest.mark.parametrize(
    "names", [("logits", "pred_boxes"), ("pred_logits", "pred_boxes"), ("labels", "dets")]
)
def test_queries_are_recognised_by_the_usual_names(names: Sequence[str], tmp_path: Path) -> None:
    detections, heads = found(exports.queries(BODY, SIZE, names), tmp_path, RAW)
    manifest = manifests.read(tmp_path / "prepared.onnx")
    assert (manifest.layout, manifest.resize, manifest.nms_iou) == ("queries", "stretch", None)
    for rows, (logits, boxes) in zip(detections, heads, strict=True):
        reference.assert_same(rows, None, reference.queries(logits, boxes, SIZE))


def test_queries_by_other_names_are_declared(tmp_path: Path) -> None:
    raw = exports.queries(BODY, SIZE, ("a", "b"))
    assert "--layout queries --head logits=a --head boxes=b" in refusal(raw, tmp_path)
    options = replace(RAW, heads=(("logits", "a"), ("boxes", "b")))
    assert len(found(raw, tmp_path, options)[0]) == 2


def test_queries_after_a_sigmoid(tmp_path: Path) -> None:
    plain, _ = found(exports.queries(BODY, SIZE), tmp_path, RAW)
    raw = exports.queries(BODY, SIZE)
    last = next(node for node in raw.graph.node if "logits" in node.output)
    last.op_type = "Sigmoid"
    activated, _ = found(raw, tmp_path, RAW)
    np.testing.assert_array_equal(plain, activated)


@pytest.mark.parametrize("column", [0, 2, -1])
def test_a_column_of_queries_for_no_object(column: int, tmp_path: Path) -> None:
    options = replace(RAW, no_object=column, labels=("red", "green"))
    detections, heads = found(exports.queries(BODY, SIZE), tmp_path, options)
    for rows, (logits, boxes) in zip(detections, heads, strict=True):
        kept = np.delete(logits, column, axis=1)
        reference.assert_same(rows, None, reference.queries(kept, boxes, SIZE))


def test_what_is_not_a_number_comes_first(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    table = random.uniform(0, 1, (1, 40, 6)).astype(np.float32)
    table[0, 17, 4] = np.nan
    logits = random.normal(0, 1, (1, 40, 3)).astype(np.float32)
    logits[0, 17, 2] = np.nan
    for maps in ({"output0": table}, {"logits": logits, "boxes": table[..., :4]}):
        raw = exports.export(exports.stored(maps), SIZE)
        layout = "end2end" if len(maps) == 1 else None
        options = replace(RAW, layout=layout, labels=COLOURS)
        session = prepared_session(raw, tmp_path, options)
        (detections,) = session.run(None, {"frames": FRAMES})
        assert np.isinf(detections[:, 0, 4]).all()
        assert np.isfinite(detections[:, 1:]).all()


@pytest.mark.parametrize(
    ("raw", "options", "reason"),
    [
        (exports.queries(BODY, SIZE), {"stride": 8}, "its layout queries has no stride: leave it"),
        (exports.queries(BODY, SIZE), {"no_object": 3}, "no column 3 of 3 class logits"),
        (exports.queries(BODY, SIZE), {"no_object": -4}, "no column -4 of 3 class logits"),
        (exports.ctdet(BODY, SIZE), {"scale": 2.0}, "its layout ctdet has no scale: leave it out"),
        (exports.ltrb(BODY, SIZE), {"scale": 0.0}, "its stride and its scale must be above 0"),
        (exports.ltrb(BODY, SIZE), {"scale": float("nan")}, "must be above 0"),
        (exports.ltrb(BODY, SIZE), {"stride": 0}, "its stride and its scale must be above 0"),
        (exports.ltrb(BODY, SIZE), {"stride": 5}, "64x96 is not divisible by 5"),
        (exports.ltrb(BODY, SIZE), {"stride": 8}, "over a grid of 8x12 cells"),
    ],
)
def test_settings_that_do_not_fit(
    raw: ModelProto, options: dict[str, float], reason: str, tmp_path: Path
) -> None:
    assert reason in refusal(raw, tmp_path, replace(RAW, **options))  # type: ignore[arg-type]


def test_an_output_of_another_kind_is_no_obstacle(tmp_path: Path) -> None:
    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        return {"hm": heat, "wh": size, "reg": offset, "boxes": size.cast(TensorProto.INT32)}

    raw = exports.export(build, SIZE)
    raw.graph.output[3].type.tensor_type.elem_type = TensorProto.INT32
    prepare(exports.write(raw, tmp_path / "export.onnx"), tmp_path / "out.onnx", RAW)

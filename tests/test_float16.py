"""Float16: what is converted, what isn't, and that the same things are found."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from centernetd.errors import ModelError
from centernetd.inference.letterbox import GEOMETRIES, fill_row
from centernetd.model import manifest as manifests
from centernetd.model.manifest import FLOAT16, FLOAT32
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, precision_of, prepare
from tests import exports, models, reference
from tests.exports import Array, Pixels
from tests.onnx_sessions import open_session, raw_outputs
from tests.rounding import rounded

DEMO = Path(__file__).parents[1] / "assets" / "demo.mp4"
SIZE = (64, 96)
MIXED = np.random.default_rng(8).normal(0, 0.5, (3, 3, 3, 3)).astype(np.float32)
HEADS = exports.random_body(classes=2, seed=3)


def body(image: Value) -> tuple[Value, Value, Value]:
    """Two layers: the last one of the scores stays float32."""
    weights = image.graph.constant(MIXED)
    return HEADS(image.then("Conv", weights, pads=[1, 1, 1, 1]).then("Relu"))


def three_classes(image: Value) -> tuple[Value, Value, Value]:
    """The same with three classes: of two, the outputs of ``ltrb`` could be ``ctdet``'s."""
    heat, size, offset = body(image)
    return image.graph.concat(heat, heat.part(0, 1, axis=1) * 0.7, axis=1), size, offset


LAYOUTS = {
    "ctdet": exports.ctdet(body, SIZE),
    "ctdet, activated": exports.ctdet(body, SIZE, activated=True),
    "flat": exports.flat(body, SIZE),
    "flat, batch 1 baked in": exports.flat(body, SIZE, batch=1),
    "flat_pool": exports.flat_pool(body, SIZE),
    "centerface": exports.centerface(),
    "multi_pose": exports.multi_pose(SIZE),
    "ltrb": exports.ltrb(three_classes, SIZE),
    "end2end": exports.end2end(body, SIZE),
    "queries": exports.queries(body, SIZE),
}
FLOATS = (FLOAT32, FLOAT16)


def prepared(raw: ModelProto, folder: Path, **options: object) -> ModelProto:
    source = exports.write(raw, folder / "export.onnx")
    name = f"{options.get('precision', 'as it comes')}.onnx"
    prepare(source, folder / name, PrepareOptions(**options))  # type: ignore[arg-type]
    return onnx.load(folder / name)


def overlaps(first: Array, second: Array) -> Array:
    """IoU of every pair of boxes [N, 4], [M, 4]; 0 across classes (column 5)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    iou = shared / (areas[0][:, None] + areas[1][None] - shared)
    return np.where(first[:, None, 5] == second[None, :, 5], iou, 0).astype(np.float32)


def demo_frames(size: tuple[int, int], every: int) -> Iterator[Pixels]:
    clip = cv2.VideoCapture(str(DEMO))
    for index in range(int(clip.get(cv2.CAP_PROP_FRAME_COUNT))):
        _, frame = clip.read()
        if index % every == 0:
            row = np.zeros((*size, 3), np.uint8)
            fill_row(frame.astype(np.uint8), row, GEOMETRIES["letterbox"](frame.shape[:2], size))
            yield row
    clip.release()


@pytest.mark.parametrize(("builtin", "threshold"), [("centerface", 0.4), ("coco", 0.3)])
def test_the_same_things_are_found_in_the_demo(
    builtin: str, threshold: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = request.getfixturevalue(builtin)
    for name in FLOATS:
        options = PrepareOptions(input_size=(512, 512), precision=name)
        assert prepare(source, tmp_path / f"{name}.onnx", options).precision == name
    exact = open_session(tmp_path / "float32.onnx")
    half = open_session(rounded(onnx.load(tmp_path / "float16.onnx")).SerializeToString())
    pairs = []
    for frame in demo_frames((512, 512), every=12):
        both = [
            session.run(["detections"], {"frames": frame[None]})[0][0] for session in (exact, half)
        ]
        pairs.append([found[found[:, 4] >= threshold] for found in both])
    assert sum(len(wanted) for wanted, _ in pairs) > 100
    shares = []
    for first, second in ((0, 1), (1, 0)):
        best = [overlaps(pair[first], pair[second]).max(axis=1, initial=0) for pair in pairs]
        shares.append(np.mean(np.concatenate(best) >= 0.9))
    assert min(shares) >= 0.99
    assert sum(len(found) for _, found in pairs) == sum(len(wanted) for wanted, _ in pairs)


def test_squares_are_marked_where_they_are(tmp_path: Path) -> None:
    size = (128, 160)
    model = prepared(models.squares(size), tmp_path, labels=models.LABELS, precision="float16")
    session = open_session(rounded(model).SerializeToString())
    boxes = [(0, 0, 20, 32), (12, 20, 40, 60), (100, 70, 156, 126), (0, 97, 56, 128)]
    frames = [models.draw(size, (row % 3, box)) for row, box in enumerate(boxes)]
    (found,) = session.run(None, {"frames": np.stack(frames)})
    for row, detections in enumerate(found):
        best = detections[detections[:, 4] > 0.5]
        wanted = np.array([[*boxes[row], 1, row % 3]], np.float32)
        assert overlaps(best, wanted).shape == (1, 1)
        assert overlaps(best, wanted)[0, 0] >= 0.9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_the_network_is_converted(layout: str, tmp_path: Path) -> None:
    model = prepared(LAYOUTS[layout], tmp_path, input_size=SIZE, precision="float16")
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    }
    for node in model.graph.node:
        for name in node.output:
            if name.startswith(("preprocess/", "decode/")):
                assert types[name] != TensorProto.FLOAT16, name
    assert precision_of(model) == "float16"
    assert manifests.find(model) is not None
    results = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    assert set(results.values()) == {TensorProto.FLOAT}


def test_every_head_has_one_cast(tmp_path: Path) -> None:
    model = prepared(exports.centerface(), tmp_path, input_size=SIZE, precision="float16")
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    added = [node.output[0] for node in casts if not node.name.startswith(("preprocess", "decode"))]
    # the picture goes to the convolution of the scores as it is, to the others in float16
    assert sorted(added) == ["graph_input_cast_0", "network/538", "network/539", "network/540"]
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["network/head.pos.weight"] == TensorProto.FLOAT
    assert kinds["network/head.reg.weight"] == TensorProto.FLOAT16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_scores_the_same(layout: str, tmp_path: Path) -> None:
    frames = np.random.default_rng(7).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    found = []
    for name in FLOATS:
        model = prepared(LAYOUTS[layout], tmp_path, input_size=SIZE, precision=name)
        session = open_session(model.SerializeToString())
        found.append(session.run(["detections"], {"frames": frames})[0])
    exact, half = (detections[..., 4] for detections in found)
    assert np.max(exact) > 0.1
    np.testing.assert_allclose(exact, half, atol=0.005)


def shared_constant(image: Value) -> dict[str, Value]:
    """A body and a score layer that share one factor, which is in a Constant node."""
    heat, size, offset = body(image.then("Mul", Value(image.graph, "factor")))
    return {"hm": heat.then("Mul", Value(image.graph, "factor")), "wh": size, "reg": offset}


def test_a_constant_that_both_sides_read_has_both_types(tmp_path: Path) -> None:
    raw = exports.export(shared_constant, SIZE)
    factor = onnx.numpy_helper.from_array(np.array(0.7, np.float32))
    raw.graph.node.insert(0, helper.make_node("Constant", [], ["factor"], value=factor))
    model = prepared(raw, tmp_path, precision="float16")
    kinds = Counter(
        tensor.data_type for tensor in model.graph.initializer if "factor" in tensor.name
    )
    assert kinds == {TensorProto.FLOAT: 1, TensorProto.FLOAT16: 1}
    frames = np.random.default_rng(2).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    (found,) = open_session(model.SerializeToString()).run(None, {"frames": frames})
    mean, std = np.array((0.408, 0.447, 0.470)), np.array((0.289, 0.274, 0.278))
    planes = ((frames / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    (heads,) = raw_outputs(raw, planes)
    wanted = reference.ctdet(*heads).detections
    np.testing.assert_allclose(found[0, 0, 4], wanted[0, 4], atol=0.01)


def test_the_scales_of_a_resize_stay_float32(tmp_path: Path) -> None:
    def build(image: Value) -> dict[str, Value]:
        half = image.then("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
        none = image.graph.constant(np.zeros(0, np.float32))
        scales = Value(image.graph, "scales")
        heat, size, offset = body(image.graph.node("Resize", half, none, scales)[0])
        return {"hm": heat, "wh": size, "reg": offset}

    raw = exports.export(build, SIZE)
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32))
    raw.graph.node.insert(0, helper.make_node("Constant", [], ["scales"], value=scales))
    model = prepared(raw, tmp_path, precision="float16")
    (resize,) = (node for node in model.graph.node if node.op_type == "Resize")
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds[resize.input[2]] == TensorProto.FLOAT


def test_a_prepared_model_is_not_converted(tmp_path: Path) -> None:
    prepared(models.squares(SIZE), tmp_path, precision="float32")
    for wanted in ("float32", None):
        again = PrepareOptions(precision=wanted)
        assert prepare(tmp_path / "float32.onnx", tmp_path / "out.onnx", again)
    with pytest.raises(ModelError, match=r"in float32: for float16, prepare the export"):
        prepare(
            tmp_path / "float32.onnx", tmp_path / "out.onnx", PrepareOptions(precision="float16")
        )


def test_a_foreign_model_shows_its_precision_by_its_weights(tmp_path: Path) -> None:
    model = prepared(exports.centerface(), tmp_path, input_size=SIZE, precision="float16")
    del model.metadata_props[:]
    source = exports.write(model, tmp_path / "foreign.onnx")
    manifest = prepare(source, tmp_path / "out.onnx", PrepareOptions(labels=("face",)))
    assert manifest.precision == "float16"


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="precision must be float32, float16, int8, not 'float8'"):
        prepared(models.squares(SIZE), tmp_path, precision="float8")


def test_the_manifest_of_a_model_shows_its_precision(tmp_path: Path) -> None:
    model = prepared(models.squares(SIZE), tmp_path, precision="float16")
    (entry,) = (entry for entry in model.metadata_props if entry.key == manifests.KEY)
    assert json.loads(entry.value)["precision"] == "float16"

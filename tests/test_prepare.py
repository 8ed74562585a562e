"""Preparing exports: each layout from pixels on, options, rows and batches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from centernetd.model import manifest as manifests
from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, models, reference
from tests.exports import Array, Pixels
from tests.onnx_sessions import open_session, prepared_session, raw_outputs

SIZE = (64, 96)
GRID = (16, 24)

Three = tuple[float, float, float]
IMAGENET_LIKE = ((0.408, 0.447, 0.470), (0.289, 0.274, 0.278))
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
FLAT = ((0.40789655, 0.44719303, 0.47026116), (0.2886383, 0.27408165, 0.27809834))


def planes(frames: Pixels, order: str, mean: Three, std: Three) -> Array:
    """The network's input as its training code makes it."""
    pixels = frames if order == "bgr" else frames[..., ::-1]
    normal = (pixels / 255 - np.array(mean)) / np.array(std)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2)).astype(np.float32)


BODY = exports.random_body(classes=2, seed=3)
DEFAULTS: dict[
    str, tuple[onnx.ModelProto, tuple[str, Three, Three], Callable[..., reference.Decoded]]
] = {
    "ctdet": (exports.ctdet(BODY, SIZE), ("bgr", *IMAGENET_LIKE), reference.ctdet),
    "flat": (
        exports.flat(BODY, SIZE),
        ("rgb", *FLAT),
        lambda table: reference.flat(table, GRID),
    ),
    "flat_pool": (
        exports.flat_pool(BODY, SIZE),
        ("bgr", *IMAGENET_LIKE),
        lambda table: reference.flat_pool(table, GRID),
    ),
    "ltrb": (
        exports.ltrb(exports.random_body(classes=3, seed=3), SIZE),
        ("rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        reference.ltrb,
    ),
    "end2end": (
        exports.end2end(BODY, SIZE),
        ("rgb", *UNIT),
        reference.end2end,
    ),
    "queries": (
        exports.queries(BODY, SIZE),
        ("rgb", *UNIT),
        lambda logits, boxes: reference.queries(logits, boxes, SIZE),
    ),
    "centerface": (
        exports.centerface(),
        ("rgb", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
        reference.centerface,
    ),
}


@pytest.mark.parametrize("layout", DEFAULTS)
def test_a_layout_is_recognised_and_fed_as_it_was_trained(layout: str, tmp_path: Path) -> None:
    raw, feeding, decode = DEFAULTS[layout]
    session = prepared_session(raw, tmp_path, PrepareOptions(input_size=SIZE))
    manifest = manifests.read(tmp_path / "prepared.onnx")
    assert (manifest.layout, manifest.order, manifest.mean, manifest.std) == (layout, *feeding)
    frames = np.random.default_rng(2).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    found = session.run(None, {"frames": frames})
    for row, heads in enumerate(raw_outputs(raw, planes(frames, *feeding))):
        keypoints = found[1][row] if manifest.joints else None
        reference.assert_same(found[0][row], keypoints, decode(*heads))


def test_options_override_the_layout(tmp_path: Path) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    options = PrepareOptions(
        layout="ctdet",
        input_size=(32, 64),
        order="rgb",
        mean=mean,
        std=std,
        resize="stretch",
        labels=("cat", "dog"),
        confidence=0.0,
        nms_iou=0.0,
        top_k=7,
        precision="float32",
    )
    raw = exports.ctdet(BODY, SIZE, names=("537", "538", "539"))
    session = prepared_session(raw, tmp_path, options)
    manifest = manifests.read(tmp_path / "prepared.onnx")
    for name, value in vars(options).items():
        assert value in (None, ()) or getattr(manifest, name) == value
    frames = np.random.default_rng(2).integers(0, 256, (1, 32, 64, 3), dtype=np.uint8)
    (found,) = session.run(None, {"frames": frames})
    (heads,) = raw_outputs(raw, planes(frames, "rgb", mean, std))
    assert found.shape == (1, 7, 6)
    reference.assert_same(found[0], None, reference.ctdet(*heads))


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (exports.ctdet(BODY, (128, 192)), (128, 192)),
        (exports.ctdet(BODY, ("height", "width")), (512, 512)),
        (exports.centerface(), (512, 512)),
    ],
    ids=["the file's", "none in the file", "a placeholder in the file"],
)
def test_the_input_size_comes_from_the_file_where_it_is_real(
    raw: onnx.ModelProto, size: tuple[int, int], tmp_path: Path
) -> None:
    source = exports.write(raw, tmp_path / "export.onnx")
    assert prepare(source, tmp_path / "out.onnx", PrepareOptions()).input_size == size


def test_unnamed_classes_are_numbered_and_other_outputs_dropped(tmp_path: Path) -> None:
    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        return {"id": image.then("Neg"), "reg": offset, "hm": heat, "wh": size}

    source = exports.write(exports.export(build, SIZE), tmp_path / "export.onnx")
    manifest = prepare(source, tmp_path / "out.onnx", PrepareOptions())
    assert manifest.labels == ("class_0", "class_1")
    model = onnx.load(tmp_path / "out.onnx")
    assert [output.name for output in model.graph.output] == ["detections"]
    assert "Neg" not in {node.op_type for node in model.graph.node}


def test_only_operators_that_tensorrt_parses_are_added(tmp_path: Path) -> None:
    source = exports.write(exports.centerface(), tmp_path / "export.onnx")
    prepare(source, tmp_path / "out.onnx", PrepareOptions())
    model = onnx.load(tmp_path / "out.onnx")
    added = {node.op_type for node in model.graph.node if not node.output[0].startswith("network/")}
    parsed = (
        "Add Cast Concat Div Equal Exp Expand Gather GatherElements Identity IsNaN MaxPool Mul "
        "Reshape Sigmoid Slice Sub TopK Transpose Unsqueeze Where"
    )
    assert added <= set(parsed.split())


def test_defects_are_removed(tmp_path: Path) -> None:
    source = exports.write(exports.centerface(), tmp_path / "export.onnx")
    prepare(source, tmp_path / "out.onnx", PrepareOptions(input_size=SIZE))
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert [value.name for value in graph.input] == ["frames"]
    assert not [tensor.name for tensor in graph.initializer if "num_batches" in tensor.name]
    assert onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "out.onnx"), strict_mode=True)


def test_what_only_a_branch_reads_is_kept(tmp_path: Path) -> None:
    def build(image: Value) -> dict[str, Value]:
        heat, size, offset = BODY(image)
        inner = onnx.helper.make_node("Neg", [heat.name], ["negative"])
        result = onnx.helper.make_tensor_value_info("negative", onnx.TensorProto.FLOAT, None)
        branch = onnx.helper.make_graph([inner], "branch", [], [result])
        always = image.graph.constant([1]).cast(onnx.TensorProto.BOOL)
        heat = always.then("If", then_branch=branch, else_branch=branch)
        return {"hm": heat, "wh": size, "reg": offset}

    raw = exports.export(build, SIZE)
    session = prepared_session(raw, tmp_path, PrepareOptions())
    frames = np.zeros((1, *SIZE, 3), np.uint8)
    (found,) = session.run(None, {"frames": frames})
    (heads,) = raw_outputs(raw, planes(frames, "bgr", *IMAGENET_LIKE))
    reference.assert_same(found[0], None, reference.ctdet(*heads))


def test_weights_next_to_the_file_are_taken_in_and_hashed(tmp_path: Path) -> None:
    digests = []
    for seed in (1, 2):
        source = tmp_path / "export.onnx"
        (tmp_path / "export.data").unlink(missing_ok=True)
        onnx.save(
            exports.centerface(seed),
            source,
            save_as_external_data=True,
            location="export.data",
            size_threshold=0,
        )
        manifest = prepare(source, tmp_path / "out.onnx", PrepareOptions(input_size=SIZE))
        digests.append(manifest.source_sha256)
    (tmp_path / "export.data").unlink()
    assert open_session(tmp_path / "out.onnx")
    assert digests[0] != digests[1]


@pytest.mark.parametrize("layout", DEFAULTS)
def test_a_row_does_not_depend_on_its_batch(layout: str, tmp_path: Path) -> None:
    session = prepared_session(DEFAULTS[layout][0], tmp_path, PrepareOptions(input_size=SIZE))
    frames = np.random.default_rng(4).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    together = session.run(None, {"frames": frames})
    for row in range(5):
        alone = session.run(None, {"frames": frames[row : row + 1]})
        for whole, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[row], single[0], atol=1e-3)


@pytest.mark.parametrize("activated", [False, True])
def test_squares_are_marked_to_the_pixel_in_any_row(activated: bool, tmp_path: Path) -> None:
    options = PrepareOptions(labels=models.LABELS, top_k=5)
    session = prepared_session(models.squares((128, 160), activated=activated), tmp_path, options)
    boxes = [(0, 0, 20, 31), (3, 5, 6, 8), (100, 70, 156, 126), (0, 97, 56, 128), (157, 1, 160, 4)]
    frames = [models.draw((128, 160), (row % 3, box)) for row, box in enumerate(boxes)]
    for batch in (frames, frames[::-1], frames[2:4]):
        (found,) = session.run(None, {"frames": np.stack(batch)})
        for frame, detections in zip(batch, found, strict=True):
            row = next(index for index, other in enumerate(frames) if other is frame)
            np.testing.assert_allclose(detections[0, :4], boxes[row], atol=0.01)
            assert detections[0, 5] == row % 3
            assert detections[0, 4] > 0.99
            assert np.all(detections[1:, 4] < 0.01)


def test_squares_side_by_side(tmp_path: Path) -> None:
    session = prepared_session(models.squares(), tmp_path, PrepareOptions(labels=models.LABELS))
    drawn = [(0, (10, 20, 50, 40)), (1, (60, 20, 90, 60)), (2, (50, 60, 99, 77)),
             (0, (150, 150, 200, 200))]  # fmt: skip
    (found,) = session.run(None, {"frames": models.draw((256, 256), *drawn)[None]})
    best = found[0][found[0, :, 4] > 0.5]
    seen = {(int(row[5]), tuple(np.round(row[:4], 1))) for row in best}
    assert seen == {(class_id, tuple(map(float, box))) for class_id, box in drawn}


def test_a_prepared_model_gets_another_manifest_and_keeps_its_graph(tmp_path: Path) -> None:
    prepared_session(models.squares(), tmp_path, PrepareOptions())
    again = PrepareOptions(labels=models.LABELS, confidence=0.7)
    first = manifests.read(tmp_path / "prepared.onnx")
    second = prepare(tmp_path / "prepared.onnx", tmp_path / "again.onnx", again)
    assert second == replace(first, labels=models.LABELS, confidence=0.7)
    graphs = [onnx.load(tmp_path / name).graph for name in ("prepared.onnx", "again.onnx")]
    assert graphs[0] == graphs[1]


def test_any_model_with_the_tensors_of_a_prepared_one_is_adopted(tmp_path: Path) -> None:
    prepared_session(exports.centerface(), tmp_path, PrepareOptions(input_size=SIZE, top_k=9))
    foreign = onnx.load(tmp_path / "prepared.onnx")
    del foreign.metadata_props[:]
    source = exports.write(foreign, tmp_path / "foreign.onnx")
    manifest = prepare(source, tmp_path / "out.onnx", PrepareOptions(labels=("thing",)))
    assert manifest == manifests.read(tmp_path / "out.onnx")
    assert (manifest.layout, manifest.input_size, manifest.top_k) == ("prepared", SIZE, 9)
    assert manifest.joints == tuple(f"joint_{index}" for index in range(5))

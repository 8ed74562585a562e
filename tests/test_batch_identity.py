"""A frame's detections don't depend on its batch, its row or its neighbours, in any precision."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from centernetd.prepare.graph import Value
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports
from tests.exports import Array, Pixels
from tests.onnx_sessions import open_session
from tests.rounding import rounded
from tests.test_float16 import HEADS, LAYOUTS, SIZE, demo_frames, overlaps

MOST = 8
PRECISIONS = ("float32", "float16", "int8")


def session_of(
    source: Path, size: tuple[int, int], precision: str, frames: Pixels, folder: Path
) -> ort.InferenceSession:
    """Prepare a network; float16 is rounded as a GPU rounds it."""
    options = PrepareOptions(input_size=size, precision=precision)
    given = list(frames) if precision == "int8" else ()
    prepare(source, folder / "prepared.onnx", options, given)
    model = onnx.load(folder / "prepared.onnx")
    if precision == "float16":
        model = rounded(model)
    return open_session(model.SerializeToString())


def in_every_row(session: ort.InferenceSession, frames: Pixels) -> tuple[list[Array], list[Array]]:
    """Return the first frame's tensors alone, and from each row of each batch size [N, K, ...].

    The neighbours are the other frames, each in turn.
    """
    alone = [tensor[0] for tensor in session.run(None, {"frames": frames[:1]})]
    found = []
    for batch in range(1, MOST + 1):
        neighbours = frames[1 + np.arange(batch) % (len(frames) - 1)]
        for row in range(batch):
            rows = neighbours.copy()
            rows[row] = frames[0]
            tensors = session.run(None, {"frames": rows})
            found.append([tensor[row] for tensor in tensors])
    return alone, [np.stack(kind) for kind in zip(*found, strict=True)]


def deformable(image: Value) -> tuple[Value, Value, Value]:
    """Reads pixels away, by offsets of its own, before the last layer."""
    random = np.random.default_rng(4)
    weights = [random.normal(0, 0.1, (count, 3, 3, 3)).astype(np.float32) for count in (18, 3)]
    inner, outer = map(image.graph.constant, weights)
    offset = image.then("Conv", inner, pads=[1, 1, 1, 1])
    found = image.then("DeformConv", outer, offset, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    return HEADS(found.then("Relu"))


def of_opset_19(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import[0].version = 19
    return model


NETWORKS = {**LAYOUTS, "deformable": of_opset_19(exports.ctdet(deformable, SIZE))}


def joints_matched(
    alone: Sequence[Array], found: Sequence[Array], threshold: float
) -> tuple[int, int]:
    """Count the joints of the detections above ``threshold`` that are matched, and those found.

    A joint is, that is no farther away than a 20th of its box's longer side.
    """
    best = overlaps(alone[0], found[0]).argmax(axis=1)
    wide = (alone[0][:, 2:4] - alone[0][:, :2]).max(axis=1)
    apart = np.abs(alone[1] - found[1][best])[..., :2].max(axis=2)
    counted = (alone[0][:, 4] >= threshold) & (overlaps(alone[0], found[0]).max(axis=1) >= 0.9)
    near = apart <= 0.05 * wide[:, None]
    return near[counted].size, int(near[counted].sum())


def matched(alone: Array, found: Array, threshold: float) -> tuple[int, int]:
    """Count detections above ``threshold`` and those matched by class and IoU >= 0.9, both ways."""
    pair = [rows[rows[:, 4] >= threshold] for rows in (alone, found)]
    best = [overlaps(pair[a], pair[b]).max(axis=1, initial=0) for a, b in ((0, 1), (1, 0))]
    return sum(len(side) for side in best), int(sum(np.sum(side >= 0.9) for side in best))


KINDS = [
    (layout, precision)
    for layout in NETWORKS
    for precision in PRECISIONS
    if (layout, precision) != ("centerface", "int8")  # one layer deep; the real one is below
]


@pytest.mark.parametrize(("layout", "precision"), KINDS)
def test_every_layout_gives_the_same_in_every_row(
    layout: str, precision: str, tmp_path: Path
) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    source = exports.write(NETWORKS[layout], tmp_path / "export.onnx")
    session = session_of(source, SIZE, precision, frames, tmp_path)
    alone, found = in_every_row(session, frames)
    if precision == "float32":
        for one, others in zip(alone, found, strict=True):
            np.testing.assert_allclose(others, np.broadcast_to(one, others.shape), atol=1e-3)
        return
    threshold = float(alone[0][20, 4])
    counts = np.sum([matched(alone[0], rows, threshold) for rows in found[0]], axis=0)
    assert counts[0] > 1000
    assert counts[1] >= 0.99 * counts[0]
    if len(alone) == 2:
        pairs = zip(*found, strict=True)
        counts = np.sum([joints_matched(alone, pair, threshold) for pair in pairs], axis=0)
        assert counts[0] > 1000
        assert counts[1] >= 0.99 * counts[0]


@pytest.mark.parametrize(
    ("builtin", "precision", "threshold"),
    [("centerface", "float16", 0.4), ("centerface", "int8", 0.4), ("coco", "float16", 0.1)],
)
def test_a_real_model_finds_the_same_in_every_row(
    builtin: str,
    precision: str,
    threshold: float,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    source = request.getfixturevalue(builtin)
    size = (192, 320)
    frames = np.stack(list(demo_frames(size, every=20)))
    session = session_of(source, size, precision, frames, tmp_path)
    alone = [session.run(["detections"], {"frames": frame[None]})[0][0] for frame in frames]
    counts = np.zeros(2, int)
    for batch in range(1, MOST + 1):
        which = (np.arange(batch) + batch) % len(frames)
        (found,) = session.run(["detections"], {"frames": frames[which]})
        for frame, rows in zip(which, found, strict=True):
            counts += matched(alone[frame], rows, threshold)
    assert counts[0] >= 100
    assert counts[1] >= 0.99 * counts[0]

"""ONNX Runtime on a real GPU, against its CPU provider, on the demo's model and frames."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from centernetd.cuda import Device, live
from centernetd.inference.engines import Slot
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.engines.ort_cuda import PROVIDER, open_onnxruntime_cuda
from centernetd.inference.letterbox import fill_row, letterbox_geometry
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests.gpu.probe import entries, on_gpu

pytestmark = on_gpu
DEMO = Path(__file__).parents[2] / "assets" / "demo.mp4"
MAX_BATCH = 8
SIZE = (512, 512)
THRESHOLD = 0.4

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Every fifth frame of the demo, letterboxed."""
    with av.open(str(DEMO)) as video:
        images = [
            np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
            for frame in itertools.islice(video.decode(video=0), 0, 200, 5)
        ]
    rows = np.zeros((len(images), *SIZE, 3), np.uint8)
    for image, row in zip(images, rows, strict=True):
        fill_row(image, row, letterbox_geometry(image.shape[:2], SIZE))
    return rows


@pytest.fixture(scope="module", params=["float32", "float16"])
def model(
    request: pytest.FixtureRequest, centerface: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("model") / f"centerface-{request.param}.onnx"
    prepare(centerface, path, PrepareOptions(input_size=SIZE, precision=request.param))
    return request.param, path


@pytest.fixture(scope="module")
def reference(
    centerface: Path, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Rows:
    """What the CPU finds in float32, one frame at a time."""
    path = tmp_path_factory.mktemp("reference") / "centerface.onnx"
    prepare(centerface, path, PrepareOptions(input_size=SIZE))
    with closing(OrtCpuEngine(path, "float32", 1, 1)) as engine:
        (slot,) = engine.make_slots(1)
        return detect(slot, pictures, 1)


@pytest.fixture(scope="module")
def opened(model: tuple[str, Path]) -> Iterator[tuple[GpuEngine, Sequence[Slot]]]:
    """An engine that has prepared all sizes of batches, and its two slots."""
    precision, path = model
    with closing(open_onnxruntime_cuda(path, 0, precision, MAX_BATCH)) as engine:
        slots = engine.make_slots(2)
        for slot in slots:
            slot.enqueue(MAX_BATCH)
            slot.wait()
        engine.prepare_smaller(lambda: False)
        yield engine, slots


def detect(slot: Slot, pictures: NDArray[np.uint8], batch: int) -> Rows:
    found = []
    for start in range(0, len(pictures), batch):
        some = pictures[start : start + batch]
        slot.rows[: len(some)] = some
        slot.enqueue(len(some))
        found.append(slot.wait()["detections"].copy())
    return np.concatenate(found)


def matched(found: Rows, wanted: Rows) -> tuple[int, int]:
    """Count the detections of both that have a partner: same class, IoU at least 0.9."""
    above, below = (rows[rows[:, 4] >= THRESHOLD] for rows in (found, wanted))
    pairs = (iou(above[:, None], below[None]) >= 0.9) & (above[:, None, 5] == below[None, :, 5])
    good = pairs.any(0).sum() + pairs.any(1).sum() if pairs.size else 0
    return int(good), len(above) + len(below)


def iou(one: Rows, other: Rows) -> Rows:
    least = np.maximum(one[..., :2], other[..., :2])
    most = np.minimum(one[..., 2:4], other[..., 2:4])
    shared = np.prod(np.clip(most - least, 0, None), axis=-1)
    areas = [np.prod(box[..., 2:4] - box[..., :2], axis=-1) for box in (one, other)]
    union: Rows = shared / (areas[0] + areas[1] - shared)
    return union


def test_the_provider_is_here() -> None:
    assert PROVIDER in ort.get_available_providers()


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8])
def test_every_bucket_finds_what_the_cpu_finds(
    batch: int,
    opened: tuple[GpuEngine, Sequence[Slot]],
    model: tuple[str, Path],
    pictures: NDArray[np.uint8],
    reference: Rows,
) -> None:
    engine, (slot, _) = opened
    assert engine.captures
    assert batch <= engine.bucket(batch) < 2 * batch
    found = detect(slot, pictures, batch)
    good, all_of_them = np.sum(
        [matched(*pair) for pair in zip(found, reference, strict=True)], axis=0
    )
    assert all_of_them > len(pictures)
    print(f"{model[0]}, batches of {batch}: {good} of {all_of_them} match")
    if model[0] == "float16":
        assert good >= 0.99 * all_of_them
        return
    assert good == all_of_them
    for row, wanted in zip(found, reference, strict=True):
        sure = wanted[:, 4] >= THRESHOLD
        np.testing.assert_allclose(row[sure, :4], wanted[sure, :4], atol=1e-3)


def test_nothing_is_allocated_after_warming_up(opened: tuple[GpuEngine, Sequence[Slot]]) -> None:
    _, slots = opened
    sizes = (1, 2, 4, 8)
    for _, slot, size in itertools.product(range(2), slots, sizes):
        slot.enqueue(size)
        slot.wait()
    before = Device(0).memory()[0], dict(live)
    for number in range(200):
        slot = slots[number % 2]
        slot.enqueue(sizes[number % 4])
        slot.wait()
    assert (Device(0).memory()[0], dict(live)) == before


def test_engines_leave_nothing(model: tuple[str, Path]) -> None:
    def once() -> None:
        with closing(open_onnxruntime_cuda(model[1], 0, model[0], 2)) as engine:
            (slot,) = engine.make_slots(1)
            slot.enqueue(2)
            slot.wait()
            engine.prepare_smaller(lambda: False)
            slot.enqueue(1)
            slot.wait()

    def held() -> tuple[int, int, Counter[str]]:
        return entries("/proc/self/task"), entries("/proc/self/fd"), +live

    for _ in range(2):
        once()
    before, free = held(), Device(0).memory()[0]
    for _ in range(5):
        once()
    assert held() == before
    assert free - Device(0).memory()[0] < 16 << 20, "less than one engine's memory"

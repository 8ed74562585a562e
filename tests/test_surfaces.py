"""Pictures that stay on the GPU, from the decoder to the detections; all hardware is simulated."""

import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from centernetd.capture import pixels
from centernetd.capture.decoding import DecoderChoice
from centernetd.capture.open import open_stream
from centernetd.capture.pixels import ToBgr
from centernetd.cuda import Surface, live
from centernetd.flow import HostImage, Image
from centernetd.inference.engines.gpu import GpuEngine, GpuSlot
from centernetd.inference.engines.trt import open_tensorrt
from centernetd.inference.letterbox import letterbox_geometry
from tests import clips, fake_nvdec, fake_tensorrt
from tests.capture_rig import stream
from tests.fake_hardware import SimulatedHardware, plan_of
from tests.fake_nvdec import FakeNvdec
from tests.fake_tensorrt import plan_file
from tests.fakes import WAIT_TIMEOUT
from tests.gpu_box import FULL, MAX_BATCH, in_thread
from tests.integration.conftest import DEMO

SIZE = (64, 64)


@pytest.fixture
def gpu() -> Iterator[FakeNvdec]:
    with fake_nvdec.installed(FakeNvdec()) as gpu:
        yield gpu


@pytest.fixture
def engine(gpu: FakeNvdec, squares_model: Path, tmp_path: Path) -> Iterator[GpuEngine]:
    """TensorRT's double on the GPU that decodes; in the end everything is given back."""
    hardware = SimulatedHardware(gpu.cuda)
    plan = plan_file(tmp_path / "squares.plan", plan_of(squares_model, FULL, MAX_BATCH))
    made = open_tensorrt(plan, fake_tensorrt.bind(FULL, hardware), 0, MAX_BATCH)
    yield made
    made.close()
    gc.collect()
    assert gpu.cuda.lost or not any(gpu.cuda.live().values())
    assert not +live


def decoded(path: Path, count: int = 5, *, surfaces: bool = True) -> list[Image]:
    config = stream(path, decode="cuda")
    source = open_stream(config, DecoderChoice(config, surfaces=surfaces))
    try:
        return [picture.image for picture, _ in zip(source, range(count), strict=False)]
    finally:
        source.close()


def put(slot: GpuSlot, *images: Image) -> None:
    for row, image in enumerate(images):
        slot.put(row, image, letterbox_geometry(image.size, SIZE))


def lines_of(rows: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return [rows, H]: which lines are of the picture."""
    return np.asarray(rows.any(axis=(2, 3)), np.bool_)


def input_of(gpu: FakeNvdec, slot: GpuSlot, rows: int) -> NDArray[np.int16]:
    """Return what the network got, which is in the memory of the GPU."""
    there = gpu.cuda.device_view(slot.addresses["frames"], rows * SIZE[0] * SIZE[1] * 3)
    return there.reshape(rows, *SIZE, 3).astype(np.int16)


def test_rows_from_surfaces_are_those_from_host_memory(gpu: FakeNvdec, engine: GpuEngine) -> None:
    own, hosts = decoded(DEMO), decoded(DEMO, surfaces=False)
    assert {type(image) for image in own} == {Surface}
    assert {type(image) for image in hosts} == {HostImage}
    (slot,) = engine.make_slots(1)
    put(slot, *own)
    slot.enqueue(5)
    slot.wait()
    from_surfaces = input_of(gpu, slot, 5)
    put(slot, *hosts)
    slot.enqueue(5)
    slot.wait()
    away = np.abs(from_surfaces - input_of(gpu, slot, 5))
    assert away.mean() < 1
    assert np.array_equal(lines_of(from_surfaces), lines_of(input_of(gpu, slot, 5))), "the border"


def test_both_kinds_mix_in_one_batch(gpu: FakeNvdec, engine: GpuEngine) -> None:
    surfaces, hosts = decoded(DEMO), decoded(DEMO, surfaces=False)
    slot, other = engine.make_slots(2)
    put(slot, hosts[0], surfaces[1], hosts[2], surfaces[3])
    put(other, surfaces[0], hosts[1], surfaces[2], hosts[3])
    for each in (slot, other):
        each.enqueue(4)
    for each in (slot, other):
        each.wait()
    assert np.abs(input_of(gpu, slot, 4) - input_of(gpu, other, 4)).mean() < 1


def test_a_slot_remembers_no_surface_of_an_earlier_batch(gpu: FakeNvdec, engine: GpuEngine) -> None:
    (slot,) = engine.make_slots(1)
    first, second = decoded(DEMO, 2)
    put(slot, first)
    put(slot, HostImage(second.pixels()))
    slot.enqueue(1)
    slot.wait()
    expected = input_of(gpu, slot, 1).copy()
    put(slot, second)
    slot.enqueue(1)
    slot.wait()
    assert np.abs(expected - input_of(gpu, slot, 1)).mean() < 1


def test_only_host_rows_cross_the_bus(gpu: FakeNvdec, engine: GpuEngine) -> None:
    (slot,) = engine.make_slots(1)
    slot.enqueue(2)
    slot.wait()
    put(slot, *decoded(DEMO, 2))
    gpu.cuda.ran.clear()
    slot.enqueue(2)
    slot.wait()
    assert [work.what for work in gpu.cuda.ran if work.what != "decode"] == [
        "copy in",  # of the jobs
        "letterbox",
        "execute",
        "copy out",
    ]


def test_surfaces_are_held_until_the_gpu_has_read_them(gpu: FakeNvdec, engine: GpuEngine) -> None:
    """What is decoded later takes the memory of a picture that nobody holds any more."""
    (slot,) = engine.make_slots(1)
    images = decoded(DEMO, 3)
    put(slot, *images)
    del images
    slot.enqueue(3)
    gc.collect()
    assert gpu.cuda.live()["device"] > len(slot.addresses) + 1
    slot.wait()
    gc.collect()
    assert gpu.cuda.live()["device"] == len(slot.addresses) + 2  # the jobs, TensorRT's own
    assert not gpu.cuda.lost


def test_a_batch_that_is_given_up_holds_no_surface(gpu: FakeNvdec, engine: GpuEngine) -> None:
    (slot,) = engine.make_slots(1)
    before = gpu.cuda.live()["device"]
    put(slot, *decoded(DEMO, 3))
    slot.clear()
    gc.collect()
    assert gpu.cuda.live()["device"] == before


@pytest.mark.parametrize("orientation", clips.ORIENTATIONS)
def test_a_surface_is_turned_as_its_pixels_are(
    gpu: FakeNvdec, engine: GpuEngine, orientation: str, tmp_path: Path
) -> None:
    matrix, seen = clips.ORIENTATIONS[orientation]
    path = clips.write(tmp_path / "turned.mp4", [clips.corners((48, 80))] * 3)
    (image, *_) = decoded(clips.orient(path, matrix), 1)
    assert isinstance(image, Surface)
    assert clips.quarters(image.pixels()) == seen
    (slot,) = engine.make_slots(1)
    put(slot, image)
    slot.enqueue(1)
    slot.wait()
    row = input_of(gpu, slot, 1)[0].astype(np.uint8)
    g = letterbox_geometry(image.size, SIZE)
    top, left = round(g.ty), round(g.tx)
    assert clips.quarters(row[top : 64 - top, left : 64 - left]) == seen


def test_colours_depth_and_size_may_change_midway(
    gpu: FakeNvdec, engine: GpuEngine, tmp_path: Path
) -> None:
    images = decoded(clips.changing(tmp_path / "changing.hevc"), 25)
    kinds = [
        (image.size, image.form.wide, image.form.matrix, image.form.full_range)
        for image in images
        if isinstance(image, Surface)
    ]
    assert len(kinds) == len(images) == 25
    assert list(dict.fromkeys(kinds)) == [
        ((256, 320), False, 5, False),
        ((256, 320), False, 1, True),
        ((256, 320), True, 9, False),
        ((320, 256), False, 9, True),
        ((192, 256), True, 1, False),
    ]
    (slot,) = engine.make_slots(1)
    for image in images:
        assert clips.quarters(image.pixels()) == "RG BW"
        put(slot, image)
        slot.enqueue(1)
        slot.wait()
        row = input_of(gpu, slot, 1)[0].astype(np.uint8)
        g = letterbox_geometry(image.size, SIZE)
        top, left = round(g.ty), round(g.tx)
        assert clips.quarters(row[top : 64 - top, left : 64 - left]) == "RG BW"


def test_pixels_are_fetched_once(gpu: FakeNvdec) -> None:
    (image,) = decoded(DEMO, 1)
    before = gpu.cuda.count()["cudaMemcpy2D"]
    first = image.pixels()
    assert image.pixels() is first
    assert gpu.cuda.count()["cudaMemcpy2D"] == before + 2


def test_pictures_of_software_are_on_the_host(gpu: FakeNvdec) -> None:
    gpu.decodes = False
    config = stream(DEMO, decode="auto")
    source = open_stream(config, DecoderChoice(config, surfaces=True))
    assert isinstance(next(iter(source)).image, HostImage)
    source.close()


def test_a_sink_fetches_pixels_while_the_source_goes_on_in_software(
    gpu: FakeNvdec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching, done = threading.Event(), threading.Event()
    capture = threading.current_thread()

    class Strict(ToBgr):
        def __init__(self) -> None:
            super().__init__()
            self._user = threading.Lock()

        def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
            assert self._user.acquire(blocking=False), "FFmpeg's converters are not thread-safe"
            with closing(SimpleNamespace(close=self._user.release)):
                if threading.current_thread() is not capture:
                    fetching.set()
                    assert done.wait(WAIT_TIMEOUT)
                return super().__call__(frame)

    monkeypatch.setattr(pixels, "ToBgr", Strict)
    config = stream(DEMO, decode="auto")
    source = open_stream(config, DecoderChoice(config, surfaces=True))
    pictures = iter(source)
    first = next(pictures).image
    gpu.decodes = False
    thread, outcome = in_thread(first.pixels)
    try:
        assert fetching.wait(WAIT_TIMEOUT)
        assert isinstance(next(pictures).image, HostImage)
    finally:
        done.set()
        thread.join()
        source.close()
    assert outcome[0] is first.pixels()

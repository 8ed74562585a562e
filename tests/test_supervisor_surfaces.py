"""Whole runs whose pictures stay on the GPU that decodes them; all hardware is simulated."""

import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from centernetd.config import load
from centernetd.cuda import live
from centernetd.errors import EngineError
from centernetd.flow import Lane
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Backend
from centernetd.inference.engines import gpu as gpu_engine
from centernetd.inference.engines.gpu import GpuSlot
from centernetd.inference.engines.trt import open_tensorrt
from centernetd.run import supervisor as supervising
from centernetd.run.supervisor import Supervisor
from tests import fake_nvdec, fake_tensorrt
from tests.commandline import clip
from tests.fake_hardware import SimulatedHardware, plan_of
from tests.fake_nvdec import FakeNvdec
from tests.fake_tensorrt import plan_file
from tests.gpu_box import FULL
from tests.integration.process import write_config

FRAMES = 120
MAX_BATCH = 8  # of a GPU, by default


class House:
    """A supervisor around the doubles of NVDEC and TensorRT."""

    def __init__(self, gpu: FakeNvdec, model: Path, folder: Path) -> None:
        self.gpu, self.folder = gpu, folder
        self._plan = plan_file(folder / "squares.plan", plan_of(model, FULL, MAX_BATCH))
        self.clip = clip(folder / "clip.mp4", FRAMES)
        self.batches: list[int] = []
        """The number of surfaces in each batch."""

    def supervise(self, **streams: dict[str, Any]) -> None:
        """Configure streams over the clip: lossless, so that many surfaces are in flight."""
        path = self.configure(**streams)
        self.supervisor = Supervisor(load(path), reread=lambda: load(path))
        self.lanes = dict[int, Lane]()

    def configure(self, **streams: dict[str, Any]) -> Path:
        common = {"source": str(self.clip), "events": {"when": "always"}}
        return write_config(self.folder, {name: common | own for name, own in streams.items()})

    def load(
        self, _model: object, _backend: object, _sizes: object, pool: Executor, *_: object
    ) -> Detector:
        binding = fake_tensorrt.bind(FULL, SimulatedHardware(self.gpu.cuda))
        engine = open_tensorrt(self._plan, binding, 0, MAX_BATCH)
        return Detector(engine, self._plan.manifest, pool)

    def run(self, on_tick: Callable[[], None] = lambda: None) -> int:
        def tick() -> None:
            self.lanes |= {id(lane): lane for lane in self.supervisor.lanes}
            on_tick()

        return self.supervisor.run(tick)

    def when_busy(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what does ``act`` once, while every lane has frames in flight on the GPU."""
        acted: list[bool] = []

        def on_tick() -> None:
            if not acted and all(lane.ledger.read().inferred for lane in self.supervisor.lanes):
                acted.append(True)
                act()

        return on_tick

    def assert_in_order(self) -> None:
        """Every frame is accounted for, and nothing of the GPU is held."""
        assert self.supervisor.left_behind == []
        assert sum(self.batches), "no surface was ever used"
        for lane in (*self.lanes.values(), *self.supervisor.lanes):
            book = lane.ledger.read()
            assert book.balanced
            assert not any(book.in_flight.values())
        self.forget()
        assert self.gpu.cuda.lost or not any(self.gpu.cuda.live().values())
        assert self.gpu.cuda.lost or not +live

    def forget(self) -> None:
        """Let go of everything that may hold a picture."""
        del self.supervisor
        self.lanes.clear()
        gc.collect()


@pytest.fixture
def house(squares_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    with fake_nvdec.installed(FakeNvdec()) as gpu:
        house = House(gpu, squares_model, tmp_path)
        letterbox = GpuSlot._letterbox

        def count(slot: GpuSlot) -> None:
            house.batches.append(len(slot._put))
            letterbox(slot)

        monkeypatch.setattr(GpuSlot, "_letterbox", count)
        monkeypatch.setattr(gpu_engine, "_lost", [])
        monkeypatch.setattr(supervising, "load_detector", house.load)
        monkeypatch.setattr(supervising, "choose_backend", lambda _: Backend("tensorrt", "a test"))
        yield house


BLIND: dict[str, Any] = {"record": {"when": "never"}}
DRAWN: dict[str, Any] = {"record": {"draw": "boxes"}}
BLURRED: dict[str, Any] = {"record": {"draw": "blur"}}


def test_every_frame_of_every_stream_is_inferred_and_written(house: House) -> None:
    house.supervise(blind=BLIND, drawn=DRAWN)
    assert house.run() == 0
    assert max(house.batches) > 1
    for lane in house.supervisor.lanes:
        assert set(lane.ledger.read().written.values()) == {FRAMES}
    house.assert_in_order()


def test_a_stop_with_surfaces_in_flight(house: House) -> None:
    house.supervise(blind=BLIND, drawn=DRAWN, blurred=BLURRED)
    assert house.run(house.when_busy(house.supervisor.stop)) == 0
    house.assert_in_order()


def test_a_decoder_that_is_lost_costs_no_frame(house: House) -> None:
    house.gpu.fail_at = FRAMES // 2
    house.supervise(blind=BLIND, drawn=DRAWN)
    assert house.run() == 0
    assert sum(house.batches) < 2 * FRAMES, "the rest was decoded in software"
    for lane in house.supervisor.lanes:
        assert set(lane.ledger.read().written.values()) == {FRAMES}
    house.assert_in_order()


def test_a_reload_replaces_a_stream_with_surfaces_in_flight(house: House) -> None:
    house.supervise(stays=BLIND, goes=DRAWN)

    def reload() -> None:
        house.configure(stays=BLIND, comes=DRAWN)
        house.supervisor.reload()

    assert house.run(house.when_busy(reload)) == 0
    names = {lane.name for lane in house.lanes.values()}
    assert names == {"stays", "goes", "comes"}
    house.assert_in_order()


def test_a_gpu_that_is_lost_ends_the_run_and_every_frame_is_accounted_for(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # errors it captures refer to what they were raised in
    house.gpu.cuda.fail("cuLaunchKernel", 5, 700)
    house.supervise(blind=BLIND, drawn=DRAWN)
    with pytest.raises(EngineError, match="the GPU is lost"):
        house.run()
    house.assert_in_order()

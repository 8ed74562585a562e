"""Whole runs whose pictures stay on the GPU that decodes them; all hardware is simulated."""

import gc
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from centernetd.config import load
from centernetd.cuda import live
from centernetd.errors import EngineError
from centernetd.flow import CAPTURE, INFERENCE, Lane, Reason
from centernetd.flow.ledger import Book
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Backend
from centernetd.inference.engines import gpu as gpu_engine
from centernetd.inference.engines.gpu import GpuSlot
from centernetd.inference.engines.trt import open_tensorrt
from centernetd.run import models as loading_models
from centernetd.run import supervisor as supervising
from centernetd.run.stream import LIVE_DEPTH
from centernetd.run.supervisor import Supervisor
from centernetd.sink.recorder import Recorder
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import Outcome, Released
from tests import fake_nvdec, fake_tensorrt
from tests.commandline import SIZE, clip
from tests.fake_hardware import SimulatedHardware, plan_of
from tests.fake_nvdec import FakeNvdec
from tests.fake_tensorrt import plan_file
from tests.fakes import WAIT_TIMEOUT, wait_until
from tests.gpu_box import FULL
from tests.integration.process import write_config

FRAMES = 120
MAX_BATCH = 8  # of a GPU, by default
ENGINE_BUFFERS = 3 * 3 + 1  # of three slots the input, detections and jobs; and the context


class House:
    """A supervisor around the doubles of NVDEC and TensorRT."""

    def __init__(self, gpu: FakeNvdec, model: Path, folder: Path) -> None:
        self.gpu, self.folder = gpu, folder
        self._plan = plan_file(folder / "squares.plan", plan_of(model, FULL, MAX_BATCH))
        self.clip = clip(folder / "clip.mp4", FRAMES)
        self.batches: list[int] = []
        """The number of surfaces in each batch."""
        self.stops_at = self.lost_at = 0  # batches

    def supervise(self, **streams: dict[str, Any]) -> None:
        """Configure streams over the clip: lossless, so that many surfaces are in flight."""
        path = self.configure(**streams)
        self.supervisor = Supervisor(load(path), reread=lambda: load(path))
        self.lanes = dict[int, Lane]()

    def configure(self, **streams: dict[str, Any]) -> Path:
        common = {"source": str(self.clip), "events": {"frames": "always"}}
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

    def when_busy(
        self, act: Callable[[], None], until: Callable[[], bool] = lambda: True
    ) -> Callable[[], None]:
        """Return what does ``act`` once, while frames of every lane wait for the GPU.

        The GPU finishes nothing from its third batch until then, and after that until ``until``.
        """
        acted: list[bool] = []
        self.stops_at = 3

        def on_tick() -> None:
            books = [lane.ledger.read() for lane in self.supervisor.lanes]
            busy = all(book.in_flight[CAPTURE] + book.in_flight[INFERENCE] for book in books)
            if not acted and busy and not self.gpu.cuda.gate.is_set():
                acted.append(True)
                act()
            if acted and until():
                self.gpu.cuda.gate.set()

        return on_tick

    def assert_in_order(self) -> None:
        """Every frame is accounted for, and nothing of the GPU is held."""
        assert self.supervisor.left_behind == []
        assert sum(self.batches), "no surface was ever used"
        assert all(book.balanced and not any(book.in_flight.values()) for book in self.books())
        self.forget()
        assert self.gpu.cuda.lost or not any(self.gpu.cuda.live().values())
        assert self.gpu.cuda.lost or not +live

    def books(self) -> list[Book]:
        """Return the book of every lane there was. A test that kept a lane would keep buffers."""
        lanes = self.lanes | {id(lane): lane for lane in self.supervisor.lanes}
        return [lane.ledger.read() for lane in lanes.values()]

    def forget(self) -> None:
        """Let go of everything that may hold a picture."""
        wait_until(lambda: EVENTS not in {thread.name for thread in threading.enumerate()})
        del self.supervisor
        self.lanes.clear()
        gc.collect()


@pytest.fixture
def house(squares_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    with fake_nvdec.installed(FakeNvdec()) as gpu:
        house = House(gpu, squares_model, tmp_path)
        enqueue = GpuSlot.enqueue

        def count(slot: GpuSlot, size: int) -> None:
            if slot._put:  # it is not the warm-up
                house.batches.append(len(slot._put))
                if len(house.batches) == house.stops_at:
                    gpu.cuda.gate.clear()
                if len(house.batches) == house.lost_at:
                    gpu.cuda.fail("cudaGraphLaunch", 1, 700)
            enqueue(slot, size)

        monkeypatch.setattr(GpuSlot, "enqueue", count)
        monkeypatch.setattr(gpu_engine, "_lost", [])
        monkeypatch.setattr(loading_models, "load_detector", house.load)
        monkeypatch.setattr(supervising, "choose_backend", lambda _: Backend("tensorrt", "a test"))
        yield house
        with warnings.catch_warnings():  # what belongs to a lost GPU is never closed
            warnings.simplefilter("ignore", ResourceWarning)
            gpu_engine._lost.clear()
            gc.collect()


BLIND: dict[str, Any] = {"record": {"when": "never"}}
DRAWN: dict[str, Any] = {"record": {"draw": ["boxes"]}}
BLURRED: dict[str, Any] = {"privacy": {"blur": {}}, "record": {"draw": []}}


def test_every_frame_of_every_stream_is_inferred_and_written(house: House) -> None:
    house.supervise(blind=BLIND, drawn=DRAWN)
    assert house.run() == 0
    assert max(house.batches) > 1
    assert all(set(book.written.values()) == {FRAMES} for book in house.books())
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
    assert all(set(book.written.values()) == {FRAMES} for book in house.books())
    house.assert_in_order()


def test_a_reload_replaces_a_stream_with_surfaces_in_flight(house: House) -> None:
    house.supervise(stays=BLIND, goes=DRAWN)

    def reload() -> None:
        house.configure(stays=BLIND, comes=DRAWN)
        house.supervisor.reload()

    def came() -> bool:
        return "comes" in {lane.name for lane in house.lanes.values()}

    assert house.run(house.when_busy(reload, came)) == 0
    assert came()
    house.assert_in_order()


def test_a_gpu_that_is_lost_ends_the_run_and_every_frame_is_accounted_for(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # errors it captures refer to what they were raised in
    house.lost_at = 5
    house.supervise(blind=BLIND, drawn=DRAWN)
    with pytest.raises(EngineError, match="the GPU is lost"):
        house.run()
    house.assert_in_order()


def test_a_hung_sink_holds_a_bounded_number_of_surfaces(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live stream goes on meanwhile, and what its sink loses is counted."""
    write, gate, most = Recorder.write, threading.Event(), [0]

    def hang(recorder: Recorder, result: Released) -> Outcome:
        assert gate.wait(WAIT_TIMEOUT)
        return write(recorder, result)

    held: list[float] = []

    def on_tick() -> None:
        most.append(house.gpu.cuda.live()["device"])
        (lane,) = house.supervisor.lanes
        held.append(len(lane.status.surfaces))
        if lane.ledger.read().inferred > FRAMES // 2:
            gate.set()

    monkeypatch.setattr(Recorder, "write", hang)
    house.supervise(drawn=DRAWN | {"policy": "live"})
    assert house.run(on_tick) == 0
    (book,) = house.books()
    assert book.dropped[RECORD, Reason.OVERFLOW] > 0
    planes = 2 * (LIVE_DEPTH + 1 + 2 + 3 + 1)  # of waiting, written, inferred, decoded pictures
    assert max(most) <= planes + ENGINE_BUFFERS
    assert LIVE_DEPTH <= max(held) <= planes // 2, "what the metric gpu_surfaces_held says"
    house.assert_in_order()


def test_lossless_streams_hold_a_bounded_number_of_surfaces(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sinks that hang would otherwise let as many wait as four batches have."""
    write, gate, shares = Recorder.write, threading.Event(), 3
    surface = 256 * SIZE[0] * 3 // 2  # bytes
    held: list[int] = []

    def hang(recorder: Recorder, result: Released) -> Outcome:
        assert gate.wait(WAIT_TIMEOUT)
        return write(recorder, result)

    def on_tick() -> None:
        if gate.is_set():
            return  # the share of a stream that ends goes to the other
        lanes = house.supervisor.lanes
        held.append(max(len(lane.status.surfaces) for lane in lanes))
        full = all(lane.ledger.read().captured > 1 for lane in lanes)
        if full and held[-5:] == [held[-1]] * 5:
            gate.set()

    monkeypatch.setattr(Recorder, "write", hang)
    monkeypatch.setattr(supervising, "LOSSLESS_GPU_BYTES", 2 * shares * surface)
    house.supervise(one=DRAWN, other=DRAWN)
    assert house.run(on_tick) == 0
    # One more is in the hands of the sink, one in those of capture, and one may be on its way.
    assert shares <= max(held) <= shares + 3
    assert all(set(book.written.values()) == {FRAMES} for book in house.books())
    house.assert_in_order()

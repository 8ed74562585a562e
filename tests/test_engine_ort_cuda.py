"""ONNX Runtime's CUDA engine over the doubles."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centernetd.errors import EngineError
from centernetd.inference.engines import gpu, ort_cuda
from centernetd.inference.engines.gpu import GpuEngine, GpuSlot, batch_sizes
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.engines.ort_cuda import RUNS_TO_PLAN, TIDY_EVERY, open_onnxruntime_cuda
from tests import fake_cuda
from tests.fake_cuda import FakeCuda
from tests.fake_hardware import SimulatedHardware
from tests.fake_onnxruntime import FakeOnnxRuntime
from tests.gpu_box import MAX_BATCH, frames, run

INVALIDATED = 901


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOnnxRuntime]:
    with fake_cuda.installed(FakeCuda()) as cuda:
        fake = FakeOnnxRuntime(cuda, SimulatedHardware(cuda))
        monkeypatch.setattr(ort_cuda, "ort", fake)
        monkeypatch.setattr(gpu, "CAPTURE_PAUSE", 0)
        yield fake
        assert not fake.aborted
        assert cuda.lost or not any(cuda.live().values())


def open_engine(model: Path) -> GpuEngine:
    return open_onnxruntime_cuda(model, 0, "float32", MAX_BATCH)


def prepare(engine: GpuEngine, count: int) -> Sequence[GpuSlot]:
    """Make this many slots, and prepare all sizes of batches, as the daemon does."""
    slots = engine.make_slots(count)
    for slot in slots:
        run(slot, frames(MAX_BATCH))
    engine.prepare_smaller(lambda: False)
    return slots


@pytest.mark.parametrize("capturable", [True, False])
def test_it_gives_what_the_cpu_engine_gives(
    ort: FakeOnnxRuntime,
    squares_model: Path,
    capturable: bool,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each batch size in its own session, captured or not, which one line says."""
    ort.capturable = capturable
    reference = OrtCpuEngine(squares_model, "float32", MAX_BATCH, 1)
    (theirs,) = reference.make_slots(1)
    with closing(open_engine(squares_model)) as engine:
        assert engine.info.backend == "onnxruntime-cuda"
        slots = prepare(engine, 2)
        for slot, size in itertools.product(slots, range(1, MAX_BATCH + 1)):
            found = run(slot, frames(size))["detections"]
            assert found.shape == (size, 10, 6)
            wanted = run(theirs, frames(size))["detections"]
            np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert set(ort.hardware.batches) == {1, 2, 4, MAX_BATCH}
    assert len(ort.sessions) == 4
    complaints = [] if capturable else ["the model's kernels are launched one by one"]
    assert [message[:43] for message in caplog.messages] == complaints
    assert ort.settings["use_tf32"] == "0"
    assert not capsys.readouterr().out
    reference.close()


def test_a_captured_run_is_launched_at_once_and_nothing_of_it_is_freed(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    with closing(open_engine(squares_model)) as engine:
        slots = prepare(engine, 3)
        for _, slot in itertools.product(range(TIDY_EVERY), slots):
            run(slot, frames(MAX_BATCH))
            run(slot, frames(1))
        planned, captured = 4 * RUNS_TO_PLAN, 4 * len(slots)
        assert len(ort.hardware.batches) == planned + captured
        assert ort.cuda.count()["cudaGraphLaunch"] == len(slots) * (2 * TIDY_EVERY + 1)
    assert not ort.left


def test_decoders_may_allocate_while_a_run_is_captured(
    ort: FakeOnnxRuntime, squares_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, statuses = ort.hardware.execute, []

    def decode() -> None:
        statuses.append(ort.cuda.cudaMalloc(1)[0])

    def in_between(*arguments: Any) -> bool:
        decoder = threading.Thread(target=decode)
        decoder.start()
        decoder.join()
        return execute(*arguments)

    monkeypatch.setattr(ort.hardware, "execute", in_between)
    with closing(open_engine(squares_model)) as engine:
        run(engine.make_slots(1)[0], frames(1))
        assert engine.captures
    assert set(statuses) == {0}
    for address in list(ort.cuda._device):
        ort.cuda.cudaFree(address)


@pytest.mark.parametrize(
    "name", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_a_graph_that_can_not_be_made_is_done_without(
    name: str, ort: FakeOnnxRuntime, squares_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one of the later ones: then the earlier are used no more."""
    with closing(open_engine(squares_model)) as engine:
        slots = engine.make_slots(2)
        wanted = run(slots[0], frames(MAX_BATCH))["detections"].copy()
        for _ in range(gpu.CAPTURE_ATTEMPTS):
            ort.cuda.fail(name, 1, 2)
        for slot in (slots[1], slots[0]):
            np.testing.assert_array_equal(run(slot, frames(MAX_BATCH))["detections"], wanted)
        assert ort.cuda.count()["cudaGraphLaunch"] == 1
        assert len(caplog.messages) == 1


def test_a_capture_that_a_decoder_spoils_is_tried_again(
    ort: FakeOnnxRuntime, squares_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening or closing one invalidates what another thread captures meanwhile."""
    with closing(open_engine(squares_model)) as engine:
        (slot,) = engine.make_slots(1)
        for size in (MAX_BATCH, 1):
            ort.cuda.fail("cudaStreamEndCapture", 1, INVALIDATED)
            run(slot, frames(size))
            engine.prepare_smaller(lambda: False)
        assert engine.bucket(1) == 1
        assert engine.captures
        assert ort.cuda.count()["cudaGraphLaunch"] == 2
        assert caplog.messages == []


def test_a_lost_gpu_is_not_mistaken_for_a_model_that_can_not_be_captured(
    ort: FakeOnnxRuntime, squares_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_lost", [])
    engine = open_engine(squares_model)
    ort.cuda.fail("cudaStreamEndCapture", 1, 719)
    with pytest.raises(EngineError, match="lost"):
        run(engine.make_slots(1)[0], frames(1))
    engine.close()
    ort.forget()


def test_what_runs_leave_behind_is_bounded_and_gone_before_the_session(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    ort.capturable = False
    with closing(open_engine(squares_model)) as engine:
        slots = prepare(engine, 2)
        ran = len(slots)
        for n in range(2 * TIDY_EVERY + 10):
            slots[n % 2].enqueue(1)
            if n:
                slots[(n - 1) % 2].wait()
        assert ort.left == 10 + ran + len(batch_sizes(MAX_BATCH)) * RUNS_TO_PLAN
        assert TIDY_EVERY <= ort.most_left <= TIDY_EVERY + len(slots)
    assert not ort.left


def test_an_engine_that_never_ran_is_closed_twice(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    engine = open_engine(squares_model)
    engine.close()
    engine.close()
    assert not ort.hardware.batches


def failure(act: Callable[[], None]) -> str:
    """Return the message of what fails, without a traceback that keeps pinned memory alive."""
    try:
        act()
    except EngineError as error:
        return str(error)
    raise AssertionError("nothing failed")


def test_until_smaller_sizes_are_prepared_batches_are_padded_to_the_largest(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    with closing(open_engine(squares_model)) as engine:
        (slot,) = engine.make_slots(1)
        padded = run(slot, frames(2))["detections"].copy()
        assert engine.bucket(1) == MAX_BATCH
        assert set(ort.hardware.batches) == {MAX_BATCH}
        engine.prepare_smaller(lambda: False)
        assert [engine.bucket(size) for size in range(1, 6)] == [1, 2, 4, 4, 5]
        np.testing.assert_allclose(run(slot, frames(2))["detections"], padded, atol=1e-3)
        engine.prepare_smaller(lambda: False)
        assert len(ort.sessions) == 4, "it is done once"


def test_batches_run_while_smaller_sizes_are_prepared(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    """Each size is used once it is captured in every slot, on another CUDA stream."""
    with closing(open_engine(squares_model)) as engine:
        slots = engine.make_slots(2)
        wanted = [run(slot, frames(2))["detections"].copy() for slot in slots]
        buckets = []

        def in_between() -> bool:
            buckets.append(engine.bucket(1))
            for slot, rows in zip(slots, wanted, strict=True):
                np.testing.assert_allclose(run(slot, frames(2))["detections"], rows, atol=1e-3)
            return False

        engine.prepare_smaller(in_between)
        assert buckets == [MAX_BATCH, 4, 2]
        assert not any(stream.work for stream in ort.cuda._streams.values()), "before it is used"
        assert engine.bucket(1) == 1


def test_slots_are_made_before_smaller_sizes_are_prepared_for_them(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    with closing(open_engine(squares_model)) as engine:
        engine.prepare_smaller(lambda: True)
        with pytest.raises(ValueError, match="before smaller"):
            engine.make_slots(1)


def test_nothing_smaller_is_prepared_for_a_run_that_is_over(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    with closing(open_engine(squares_model)) as engine:
        (slot,) = engine.make_slots(1)
        run(slot, frames(1))
        engine.prepare_smaller(lambda: True)
        assert len(ort.sessions) == 1
        assert engine.bucket(1) == MAX_BATCH


def test_an_engine_that_can_not_prepare_smaller_sizes_still_runs_them_padded(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    with closing(open_engine(squares_model)) as engine:
        (slot,) = engine.make_slots(1)
        before = run(slot, frames(1))["detections"].copy()
        ort.failing = "out of memory"
        said = failure(lambda: engine.prepare_smaller(lambda: False))
        assert said == "ONNX Runtime failed on the GPU: out of memory"
        ort.failing = ""
        np.testing.assert_array_equal(run(slot, frames(1))["detections"], before)
        assert engine.bucket(1) == MAX_BATCH


def fail(engine: GpuEngine, ort: FakeOnnxRuntime) -> str:
    """Have the second of two runs fail; returns its message."""
    first, second = engine.make_slots(2)
    first.enqueue(1)
    ort.failing = "out of memory\nand a long story"
    return failure(lambda: second.enqueue(1))


def test_a_session_that_fails_is_an_engine_error_and_is_kept(
    ort: FakeOnnxRuntime, squares_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(gpu, "_lost", kept)
    engine = open_engine(squares_model)
    assert fail(engine, ort) == "ONNX Runtime failed on the GPU: out of memory"
    engine.close()
    assert len(kept) == 1
    ort.forget()  # nobody is to be blamed for the process's end


def test_missing_libraries_are_named(ort: FakeOnnxRuntime, squares_model: Path) -> None:
    ort.providers = ["CPUExecutionProvider"]
    with pytest.raises(EngineError, match="libraries of CUDA or cuDNN are missing"):
        open_engine(squares_model)

"""ONNX Runtime's CUDA engine over the doubles."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from centernetd.errors import EngineError
from centernetd.inference.engines import gpu, ort_cuda
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.engines.ort_cuda import TIDY_EVERY, open_onnxruntime_cuda
from tests import fake_cuda
from tests.fake_cuda import FakeCuda
from tests.fake_hardware import SimulatedHardware
from tests.fake_onnxruntime import FakeOnnxRuntime
from tests.gpu_box import MAX_BATCH, frames, run


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOnnxRuntime]:
    with fake_cuda.installed(FakeCuda()) as cuda:
        fake = FakeOnnxRuntime(cuda, SimulatedHardware(cuda))
        monkeypatch.setattr(ort_cuda, "ort", fake)
        yield fake
        assert not fake.aborted
        assert cuda.lost or not any(cuda.live().values())


def open_engine(model: Path) -> GpuEngine:
    return open_onnxruntime_cuda(model, 0, "float32", MAX_BATCH)


def test_it_gives_what_the_cpu_engine_gives_and_only_runs_one_size(
    ort: FakeOnnxRuntime, squares_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = OrtCpuEngine(squares_model, "float32", MAX_BATCH, 1)
    (theirs,) = reference.make_slots(1)
    with closing(open_engine(squares_model)) as engine:
        assert engine.info.backend == "onnxruntime-cuda"
        (slot,) = engine.make_slots(1)
        for size in range(1, MAX_BATCH + 1):
            found = run(slot, frames(size))["detections"]
            assert found.shape == (size, 10, 6)
            wanted = run(theirs, frames(size))["detections"]
            np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert set(ort.hardware.batches) == {MAX_BATCH}
    assert ort.settings["use_tf32"] == "0"
    assert not capsys.readouterr().out
    reference.close()


def test_what_runs_leave_behind_is_bounded_and_gone_before_the_session(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    with closing(open_engine(squares_model)) as engine:
        slots = engine.make_slots(2)
        for n in range(2 * TIDY_EVERY + 10):
            slots[n % 2].enqueue(1)
            if n:
                slots[(n - 1) % 2].wait()
        assert ort.left == 10
        assert TIDY_EVERY <= ort.most_left <= TIDY_EVERY + len(slots)
    assert ort.left == 0


def test_an_engine_that_never_ran_is_closed_twice(
    ort: FakeOnnxRuntime, squares_model: Path
) -> None:
    engine = open_engine(squares_model)
    engine.close()
    engine.close()
    assert not ort.hardware.batches


def fail(engine: GpuEngine, ort: FakeOnnxRuntime) -> str:
    """Have the second of two runs fail; returns its message."""
    first, second = engine.make_slots(2)
    first.enqueue(1)
    ort.failing = "out of memory\nand a long story"
    try:
        second.enqueue(1)
    except EngineError as error:
        return str(error)
    raise AssertionError("nothing failed")


def test_a_session_that_fails_is_an_engine_error_and_is_kept(
    ort: FakeOnnxRuntime, squares_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(gpu, "_lost", kept)
    engine = open_engine(squares_model)
    assert fail(engine, ort) == "ONNX Runtime failed on the GPU: out of memory"
    engine.close()
    assert len(kept) == 1
    ort.left = 0  # nobody is to be blamed for the process's end


def test_missing_libraries_are_named(ort: FakeOnnxRuntime, squares_model: Path) -> None:
    ort.providers = ["CPUExecutionProvider"]
    with pytest.raises(EngineError, match="libraries of CUDA or cuDNN are missing"):
        open_engine(squares_model)

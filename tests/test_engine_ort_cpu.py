"""ONNX Runtime on the CPU, with real models."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from centernetd.errors import EngineError, ModelError
from centernetd.inference.engines import Backend, open_onnx
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from tests.models import draw


@pytest.fixture
def engine(squares_model: Path) -> Iterator[OrtCpuEngine]:
    engine = OrtCpuEngine(squares_model, "float32", max_batch=4, concurrency=2)
    yield engine
    engine.close()
    engine.close()


def test_slots_are_written_in_place_and_give_the_tensors_of_their_first_rows(
    engine: OrtCpuEngine,
) -> None:
    first, second = engine.make_slots(2)
    assert first.rows.shape == (4, 64, 64, 3)
    assert first.rows.dtype == np.uint8
    assert not np.shares_memory(first.rows, second.rows)
    first.rows[0] = draw((64, 64), (1, (10, 20, 30, 50)))
    second.rows[2] = draw((64, 64), (2, (5, 6, 17, 19)))
    first.enqueue(1)
    second.enqueue(3)
    found = [slot.wait()["detections"] for slot in (first, second)]
    assert [tensor.shape for tensor in found] == [(1, 10, 6), (3, 10, 6)]
    assert all(tensor.dtype == np.float32 for tensor in found)
    np.testing.assert_allclose(found[0][0, 0, [0, 1, 2, 3, 5]], [10, 20, 30, 50, 1], atol=0.01)
    np.testing.assert_allclose(found[1][2, 0, [0, 1, 2, 3, 5]], [5, 6, 17, 19, 2], atol=0.01)
    assert (found[1][:2, :, 4] < 0.1).all()


def test_a_slot_can_be_used_again(engine: OrtCpuEngine) -> None:
    (slot,) = engine.make_slots(1)
    for x in (4, 8, 12):
        slot.rows[0] = draw((64, 64), (0, (x, 10, x + 10, 30)))
        slot.enqueue(1)
        assert slot.wait()["detections"][0, 0, 0] == pytest.approx(x, abs=0.01)


def test_a_slot_is_enqueued_once_and_then_waited_for_once(engine: OrtCpuEngine) -> None:
    (slot,) = engine.make_slots(1)
    slot.enqueue(1)
    with pytest.raises(ValueError, match="already enqueued"):
        slot.enqueue(1)
    slot.wait()
    with pytest.raises(ValueError, match="not enqueued"):
        slot.wait()


def test_any_batch_size_is_its_own_bucket(engine: OrtCpuEngine) -> None:
    assert [engine.bucket(size) for size in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_a_failure_at_run_time_is_an_engine_error(
    engine: OrtCpuEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slot,) = engine.make_slots(1)
    monkeypatch.setattr(engine, "_outputs", ["no such output"])
    slot.enqueue(1)
    with pytest.raises(EngineError, match="ONNX Runtime failed"):
        slot.wait()


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"\0" * 4096])
def test_a_file_that_is_no_model_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx") as caught:
        OrtCpuEngine(path, "float32", 1, 1)
    assert "\n" not in str(caught.value)


def test_the_choice_of_the_cpu_opens_it(squares_model: Path) -> None:
    backend = Backend("onnxruntime-cpu", "a test asks for it")
    engine = open_onnx(backend, squares_model, "float32", 0, 1, 1)
    assert engine.info.backend == "onnxruntime-cpu"
    engine.close()

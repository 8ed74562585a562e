"""The ring of slots on a simulated GPU: overlap, order, refusals, failures."""

import itertools
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from centernetd.cuda import JOB, live
from centernetd.errors import EngineError
from centernetd.flow import HostImage, Image
from centernetd.inference.engines import gpu
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.inference.letterbox import Geometry
from tests.fake_cuda import FakeCuda
from tests.gpu_box import GpuBox, every_flavour, frames, in_thread, run, run_once
from tests.simulated_gpu import ALLOCATIONS, STICKY, WAITS, Interval
from tests.surfaces import Picture

Rows = NDArray[np.float32]


def test_batches_overlap_and_stay_apart(box: GpuBox) -> None:
    """Three batches on the GPU concurrently: copies under compute, each with its own rows."""
    engine = box.open()
    slots = engine.make_slots(3)
    pictures = [frames(4, seed=n) for n in range(9)]
    alone = [run(slots[0], each)["detections"].copy() for each in pictures]
    box.cuda.ran.clear()
    found = []
    for n, each in enumerate(pictures):
        slot = slots[n % 3]
        if n >= 3:
            found.append(slot.wait()["detections"].copy())
        slot.rows[:4] = each
        slot.enqueue(4)
    found += [slots[n % 3].wait()["detections"].copy() for n in range(6, 9)]
    np.testing.assert_array_equal(found, alone)
    runs, outwards = (
        [work for work in box.cuda.ran if work.what == what] for what in ("execute", "copy out")
    )
    inwards = [work for work in box.cuda.ran if work.stream != runs[0].stream]
    assert {(work.what, work.stream) for work in inwards} == {("copy in", inwards[0].stream)}
    assert all(copy.end <= run.begin for copy, run in zip(inwards, runs, strict=True))
    assert all(run.end <= copy.begin for run, copy in zip(runs, outwards, strict=True))
    assert _busy(runs) == pytest.approx(runs[-1].end - runs[0].begin, rel=0.02), "compute paused"
    computed = [work for work in box.cuda.ran if work.stream == runs[0].stream]
    assert sum(any(copy.overlaps(work) for work in computed) for copy in inwards) >= 6
    engine.close()


def _busy(work: list[Interval]) -> float:
    return sum(each.end - each.begin for each in work)


def test_only_the_rows_of_the_batch_cross_the_bus(box: GpuBox) -> None:
    """And back, the outputs of as many as it is padded to."""
    engine = box.open()
    (slot,) = engine.make_slots(1)
    box.cuda.ran.clear()
    slot.enqueue(3)
    slot.wait()
    rows, jobs, *work = box.cuda.ran
    copied = [copy.end - copy.begin for copy in (rows, jobs, work[-1])]
    assert [rows.what, jobs.what, work[-1].what] == ["copy in", "copy in", "copy out"]
    assert copied == pytest.approx([3 * 64 * 64 * 3 / 25e9, 4 * JOB.size / 25e9, 4 * 240 / 25e9])
    assert slot.durations() == {
        "copy_in": pytest.approx(copied[0], abs=1e-8),
        "execute": pytest.approx(0.002 + 4 * 3e-6 + copied[1], abs=1e-8),
        "copy_out": pytest.approx(copied[2], abs=1e-8),
    }
    engine.close()


def test_rows_and_surfaces_mix_and_move(box: GpuBox) -> None:
    """What is enqueued is what is in the first rows, whatever was put behind or before it."""
    engine = box.open()
    (slot,) = engine.make_slots(1)
    picture = Picture((48, 48), wide=False, seed=1)
    surface = picture.surface(1, (1, 0, 0, 1), full_range=False)
    host, same = HostImage(frames(1)[0]), Geometry(1.0, 1.0, 0.0, 0.0)

    def found(*images: Image, moves: tuple[tuple[int, int], ...] = (), size: int = 1) -> Rows:
        for row, image in enumerate(images):
            slot.put(row, image, same)
        for row, to in moves:
            slot.move(row, to)
        slot.enqueue(size)
        return slot.wait()["detections"].copy()

    on_host = found(host)
    box.cuda.ran.clear()
    on_gpu = found(surface)
    copies = [work.what for work in box.cuda.ran if "copy" in work.what]
    assert copies == ["copy in", "copy out"], "no rows are copied in, only what the kernel is to do"
    assert not np.array_equal(on_host, on_gpu)
    np.testing.assert_array_equal(found(host, surface), on_host)
    np.testing.assert_array_equal(found(surface, host), on_gpu)
    np.testing.assert_array_equal(found(host, surface, moves=((1, 0),)), on_gpu)
    np.testing.assert_array_equal(found(surface, host, moves=((1, 0),)), on_host)
    both = found(host, host, surface, moves=((2, 1),), size=2)
    np.testing.assert_array_equal(both, [on_host[0], on_gpu[0]])
    picture.close()
    engine.close()


@pytest.mark.parametrize("name", ["cuModuleLoadData", "cuModuleGetFunction"])
def test_an_engine_whose_kernel_the_gpu_does_not_run_takes_pictures_of_the_host(
    name: str, box: GpuBox, caplog: pytest.LogCaptureFixture
) -> None:
    """So it is with a GPU older than the kernel, or a driver older than its PTX."""
    box.cuda.fail(name, 1, 222)
    engine = box.open()
    assert not engine.takes_surfaces
    assert f"letterboxed on the CPU: {name} failed" in caplog.text
    (slot,) = engine.make_slots(1)
    assert run(slot, frames(2))["detections"].any()
    engine.close()
    del slot  # the logged error refers to this frame


def test_short_memory_for_the_kernel_is_an_error(box: GpuBox) -> None:
    box.cuda.fail("cuModuleLoadData", 1, 2)
    with pytest.raises(EngineError, match="cuModuleLoadData failed"):
        box.open()


def test_waiting_waits_until_the_results_are_there(box: GpuBox) -> None:
    engine = box.open()
    (slot,) = engine.make_slots(1)
    slot.rows[:1] = frames(1)
    slot.enqueue(1)
    box.cuda.gate.clear()
    thread, scores = in_thread(lambda: float(slot.wait()["detections"][0, 0, 4]))
    while "cudaEventSynchronize" not in box.cuda.calls:
        assert thread.is_alive()
    assert not scores
    box.cuda.gate.set()
    thread.join()
    assert scores == [pytest.approx(1, abs=0.1)]
    engine.close()


def test_a_slot_on_the_gpu_is_refused_and_one_that_is_not_cannot_be_waited_for(
    box: GpuBox,
) -> None:
    engine = box.open()
    (slot,) = engine.make_slots(1)
    with pytest.raises(ValueError, match="not on the GPU"):
        slot.wait()
    slot.enqueue(1)
    with pytest.raises(ValueError, match="still on the GPU"):
        slot.enqueue(1)
    slot.wait()
    engine.close()


def test_another_gpu_is_used_by_every_thread(box: GpuBox) -> None:
    box.index = 1
    engine = box.open()
    (slot,) = engine.make_slots(1)
    thread, returned = in_thread(lambda: slot.enqueue(2))
    thread.join()
    assert returned == [None]
    slot.wait()
    engine.close()


def test_nothing_is_allocated_after_the_first_round(box: GpuBox) -> None:
    engine = box.open()
    slots = engine.make_slots(2)
    for slot, size in itertools.product(slots, (1, 2, 4, 5)):
        run(slot, frames(size))
    before = box.cuda.count()
    for n in range(50):
        run(slots[n % 2], frames(n % 5 + 1))
    made = box.cuda.count() - before
    assert not set(made) & {*ALLOCATIONS, "cudaFree", "cudaFreeHost"}
    engine.close()


def test_a_hundred_engines_leave_nothing(box: GpuBox) -> None:
    for _ in range(100):
        engine = box.open()
        (slot,) = engine.make_slots(1)
        slot.enqueue(1)
        engine.close()  # with a batch still on the GPU
        del slot
    assert not any(box.cuda.live().values())
    assert not +live


@every_flavour
def test_short_memory_at_any_allocation_leaves_nothing(box: GpuBox) -> None:
    for nth in itertools.count(1):
        box.cuda._failures.clear()
        box.cuda.fail(ALLOCATIONS, nth, 2)
        before = box.cuda.count()
        with suppress(EngineError):
            run_once(box)
        assert not any(box.cuda.live().values()), f"allocation {nth}"
        assert not +live
        made = box.cuda.count() - before
        if sum(made[name] for name in ALLOCATIONS) < nth:
            break
    assert nth == 17, "3 streams, 6 buffers, 6 events, a context; then none failed"


STEPS = (
    "cudaEventRecord",
    "cudaMemcpyAsync",
    "cudaStreamWaitEvent",
    "launch",
    "cudaEventSynchronize",
)


def fail(engine: GpuEngine, cuda: FakeCuda, name: str, code: int) -> str:
    """Have the next call of ``name`` fail with a batch on the GPU; returns its message."""
    first, second = engine.make_slots(2)
    first.enqueue(1)
    cuda.fail(name, 1, code)
    try:
        second.enqueue(1)
        first.wait()
    except EngineError as error:
        return str(error)
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("code", [719, 999])
def test_a_failure_in_any_call_is_an_engine_error_and_only_a_lost_gpu_is_not_waited_for(
    name: str, code: int, box: GpuBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(gpu, "_lost", lost)
    engine = box.open()
    message = fail(engine, box.cuda, name, code)
    assert ("lost" in message) == (code in STICKY and name != "launch")
    before = box.cuda.count()
    engine.close()
    waited = set(box.cuda.count() - before) & set(WAITS)
    assert bool(waited) == (code not in STICKY)
    assert bool(lost) == (code in STICKY), "TensorRT's objects were freed on a lost GPU"


def test_a_thread_that_can_not_select_the_gpu_is_an_engine_error(box: GpuBox) -> None:
    engine = box.open()
    (slot,) = engine.make_slots(1)
    box.cuda.fail("cudaSetDevice", 1, 999)

    def enqueue() -> str:
        with pytest.raises(EngineError, match="cudaSetDevice failed"):
            slot.enqueue(1)
        slot.enqueue(1)  # it is tried again
        return "enqueued"

    thread, returned = in_thread(enqueue)
    thread.join()
    assert returned == ["enqueued"]
    slot.wait()
    engine.close()


def test_batches_are_padded_to_a_power_of_two_or_the_largest(box: GpuBox) -> None:
    engine = box.open()
    assert [engine.bucket(size) for size in range(1, 6)] == [1, 2, 4, 4, 5]
    engine.close()


@given(st.integers(1, 300))
def test_the_sizes_of_batches_are_those_to_which_some_are_padded(max_batch: int) -> None:
    padded = {min(1 << (size - 1).bit_length(), max_batch) for size in range(1, max_batch + 1)}
    assert sorted(padded) == list(gpu.batch_sizes(max_batch))


def test_an_engine_may_be_closed_twice(box: GpuBox) -> None:
    engine = box.open()
    engine.make_slots(1)
    engine.close()
    before = box.cuda.count()
    engine.close()
    assert not box.cuda.count() - before


def test_a_network_that_can_not_be_freed_is_kept_and_logged(
    box: GpuBox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(gpu, "_lost", lost)
    engine = box.open()
    model, close = engine.model, engine.model.close

    def refuse() -> None:
        raise EngineError("it is in use")

    model.close = refuse  # type: ignore[method-assign]
    engine.close()
    assert lost == [model]
    assert caplog.messages == ["it is in use"]
    close()


def test_a_stream_that_does_not_finish_is_logged_and_the_rest_is_freed(
    box: GpuBox, caplog: pytest.LogCaptureFixture
) -> None:
    engine = box.open()
    box.cuda.fail("cudaStreamSynchronize", 1, 999)
    engine.close()
    assert len(caplog.messages) == 1
    assert "cudaStreamSynchronize" in caplog.messages[0]

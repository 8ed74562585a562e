"""The TensorRT engine over the doubles: every flavour, overlap, order, refusals, failures."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.errors import EngineError, ModelError
from daemon.inference.cuda import live
from daemon.inference.engines import Slot, Tensors, gpu
from daemon.inference.engines.gpu import GpuEngine
from daemon.inference.engines.ort import OrtCpuEngine
from daemon.inference.engines.trt import open_tensorrt
from daemon.model.plan import Binding
from daemon.model.prepare import PrepareOptions, prepare
from tests import exports, fake_cuda, fake_tensorrt
from tests.fake_cuda import ALLOCATIONS, STICKY, WAITS, FakeCuda, Interval
from tests.fake_hardware import SimulatedHardware, plan_of
from tests.fake_tensorrt import FLAVOURS, plan_file
from tests.models import draw, squares

MAX_BATCH = 5  # no power of two, so that the last bucket is a smaller step
FULL, RTX = FLAVOURS[2], FLAVOURS[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    source = exports.write(squares((64, 64)), folder / "export.onnx")
    prepare(source, folder / "prepared.onnx", PrepareOptions(top_k=10))
    return folder / "prepared.onnx"


@dataclass
class House:
    """A box with a GPU and one flavour of TensorRT, and a plan for it."""

    cuda: FakeCuda
    hardware: SimulatedHardware
    plan: Path
    flavour: str
    binding: Binding
    index: int = 0

    def open(self) -> GpuEngine:
        plan = plan_file(self.plan, self.plan.read_bytes())
        return open_tensorrt(plan, self.binding, self.index, MAX_BATCH)


def make_house(model: Path, folder: Path, flavour: str, stack: ExitStack) -> House:
    cuda = stack.enter_context(fake_cuda.installed(FakeCuda(devices=2)))
    hardware = SimulatedHardware(cuda)
    plan = folder / "squares.plan"
    plan.write_bytes(plan_of(model, flavour, MAX_BATCH))
    return House(cuda, hardware, plan, flavour, fake_tensorrt.bind(flavour, hardware))


@pytest.fixture(params=[RTX])
def house(model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    with ExitStack() as stack:
        made = make_house(model, tmp_path, request.param, stack)
        yield made
        assert made.cuda.lost or not any(made.cuda.live().values())
        assert made.cuda.lost or not +live


every_flavour = pytest.mark.parametrize("house", FLAVOURS, indirect=True)


def frames(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures with a rectangle each, no two alike."""
    spots = np.random.default_rng(seed).integers(4, 30, (count, 2))
    return np.stack(
        [
            draw((64, 64), (n % 3, (int(x), int(y), int(x) + 12 + n, int(y) + 16)))
            for n, (x, y) in enumerate(spots)
        ]
    )


def run(engine: GpuEngine | OrtCpuEngine, slot: Slot, pictures: NDArray[np.uint8]) -> Tensors:
    slot.rows[: len(pictures)] = pictures
    engine.enqueue(slot, len(pictures))
    return engine.wait(slot)


def test_the_double_has_only_names_of_the_real_one() -> None:
    """And what not every flavour has is known here: the engine must do without it."""
    partial = {
        "ICudaEngine.create_runtime_config",
        "IRuntimeConfig",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.set_runtime_cache",
        "IRuntimeCache",
        "IRuntimeCache.serialize",
        "IRuntimeCache.deserialize",
    }
    used: dict[str, set[str]] = {}
    for flavour in FLAVOURS:
        module = fake_tensorrt.make_tensorrt(flavour, SimulatedHardware(FakeCuda()))
        names = set(module.__dict__) - set(type(module)("x").__dict__) - {"__version__"}
        for name in names - set(fake_tensorrt.API["functions"]):
            used.setdefault(name, set()).add(flavour)
            for attribute in vars(getattr(module, name)):
                if not attribute.startswith("_"):
                    used.setdefault(f"{name}.{attribute}", set()).add(flavour)
    everywhere = {name for name, flavours in used.items() if len(flavours) == len(FLAVOURS)}
    assert used.keys() - everywhere == partial
    for name in used:
        kind, _, attribute = name.partition(".")
        assert kind in fake_tensorrt.API["classes"]
        assert not attribute or attribute in fake_tensorrt.API["classes"][kind]


@every_flavour
def test_it_gives_what_the_cpu_engine_gives_in_every_bucket_and_row(
    house: House, model: Path
) -> None:
    reference = OrtCpuEngine(model, MAX_BATCH, 1)
    (theirs,) = reference.make_slots(1)
    engine = house.open()
    assert engine.info.backend == house.flavour.split()[0].replace("_", "-")
    assert (engine.info.precision, engine.info.device) == ("float16", "Fake GPU 0")
    slots = engine.make_slots(2)
    for size, slot in itertools.product(range(1, MAX_BATCH + 1), slots):
        pictures = frames(size, seed=size)
        found = run(engine, slot, pictures)["detections"]
        assert found.shape == (size, 10, 6)
        wanted = run(reference, theirs, pictures)["detections"]
        np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert house.hardware.batches == [1, 1, 2, 2, 4, 4, 4, 4, 5, 5]
    engine.close()
    engine.close()
    reference.close()


def in_thread(do: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Do it in another thread; the list gets what it returns, or what misuse it is told of."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(do())
        except AssertionError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_batches_overlap_and_stay_apart(house: House, model: Path) -> None:
    """Three batches on the GPU at once: copies under compute, each with its own rows."""
    engine = house.open()
    slots = engine.make_slots(3)
    pictures = [frames(4, seed=n) for n in range(9)]
    alone = [run(engine, slots[0], each)["detections"].copy() for each in pictures]
    house.cuda.ran.clear()
    found = []
    for n, each in enumerate(pictures):
        slot = slots[n % 3]
        if n >= 3:
            found.append(engine.wait(slot)["detections"].copy())
        slot.rows[:4] = each
        engine.enqueue(slot, 4)
    found += [engine.wait(slots[n % 3])["detections"].copy() for n in range(6, 9)]
    np.testing.assert_array_equal(found, alone)
    inwards, runs, outwards = (
        [work for work in house.cuda.ran if work.what == what]
        for what in ("copy in", "execute", "copy out")
    )
    assert len({work.stream for work in house.cuda.ran}) == 3
    assert all(copy.end <= run.begin for copy, run in zip(inwards, runs, strict=True))
    assert all(run.end <= copy.begin for run, copy in zip(runs, outwards, strict=True))
    assert _busy(runs) == pytest.approx(runs[-1].end - runs[0].begin, rel=0.02), "compute paused"
    assert sum(any(copy.overlaps(run) for run in runs) for copy in inwards) >= 6
    engine.close()


def _busy(work: list[Interval]) -> float:
    return sum(each.end - each.begin for each in work)


def test_only_the_rows_of_the_batch_cross_the_bus(house: House) -> None:
    engine = house.open()
    (slot,) = engine.make_slots(1)
    house.cuda.ran.clear()
    engine.enqueue(slot, 3)
    engine.wait(slot)
    took = {work.what: work.end - work.begin for work in house.cuda.ran}
    assert took["copy in"] == pytest.approx(3 * 64 * 64 * 3 / 25e9)
    assert took["copy out"] == pytest.approx(3 * 10 * 6 * 4 / 25e9)
    assert engine.durations(slot) == {
        "copy_in": pytest.approx(took["copy in"], abs=1e-8),
        "execute": pytest.approx(0.002, abs=1e-8),
        "copy_out": pytest.approx(took["copy out"], abs=1e-8),
    }
    engine.close()


def test_waiting_waits_until_the_results_are_there(house: House) -> None:
    engine = house.open()
    (slot,) = engine.make_slots(1)
    slot.rows[:1] = frames(1)
    engine.enqueue(slot, 1)
    house.cuda.gate.clear()
    thread, scores = in_thread(lambda: float(engine.wait(slot)["detections"][0, 0, 4]))
    while "cudaEventSynchronize" not in house.cuda.calls:
        assert thread.is_alive()
    assert not scores
    house.cuda.gate.set()
    thread.join()
    assert scores == [pytest.approx(1, abs=0.1)]
    engine.close()


def test_a_slot_on_the_gpu_is_refused_and_one_that_is_not_cannot_be_waited_for(
    house: House,
) -> None:
    engine = house.open()
    (slot,) = engine.make_slots(1)
    with pytest.raises(KeyError):
        engine.wait(slot)
    engine.enqueue(slot, 1)
    with pytest.raises(ValueError, match="still on the GPU"):
        engine.enqueue(slot, 1)
    engine.wait(slot)
    engine.close()


def test_another_gpu_is_used_by_every_thread(house: House) -> None:
    house.index = 1
    engine = house.open()
    (slot,) = engine.make_slots(1)
    thread, returned = in_thread(lambda: engine.enqueue(slot, 2))
    thread.join()
    assert returned == [None]
    engine.wait(slot)
    engine.close()


def test_a_second_thread_that_enqueues_is_caught_by_the_double(house: House) -> None:
    engine = house.open()
    (slot,) = engine.make_slots(1)
    engine.enqueue(slot, 1)
    engine.wait(slot)
    thread, told = in_thread(lambda: engine.enqueue(slot, 1))
    thread.join()
    assert told == ["an execution context in two threads"]
    engine.close()


def test_nothing_is_allocated_after_the_first_round(house: House) -> None:
    engine = house.open()
    slots = engine.make_slots(2)
    for slot, size in itertools.product(slots, (1, 2, 4, 5)):
        run(engine, slot, frames(size))
    before = house.cuda.count()
    for n in range(50):
        run(engine, slots[n % 2], frames(n % 5 + 1))
    made = house.cuda.count() - before
    assert not set(made) & {*ALLOCATIONS, "cudaFree", "cudaFreeHost"}
    engine.close()


def test_a_hundred_engines_leave_nothing(house: House) -> None:
    for _ in range(100):
        engine = house.open()
        (slot,) = engine.make_slots(1)
        engine.enqueue(slot, 1)
        engine.close()  # with a batch still on the GPU
        del slot
    assert not any(house.cuda.live().values())
    assert not +live


def run_once(house: House) -> None:
    with closing(house.open()) as engine:
        (slot,) = engine.make_slots(1)
        engine.enqueue(slot, 1)
        engine.wait(slot)


@every_flavour
def test_short_memory_at_any_allocation_leaves_nothing(house: House) -> None:
    for nth in itertools.count(1):
        house.cuda._failures.clear()
        house.cuda.fail(ALLOCATIONS, nth, 2)
        before = house.cuda.count()
        with suppress(EngineError):
            run_once(house)
        assert not any(house.cuda.live().values()), f"allocation {nth}"
        assert not +live
        made = house.cuda.count() - before
        if sum(made[name] for name in ALLOCATIONS) < nth:
            break
    assert nth == 15, "3 streams, 4 buffers, 6 events, a context; then none failed"


def test_short_memory_for_the_context_is_told_in_numbers(house: House) -> None:
    engine = house.open()
    (slot,) = engine.make_slots(1)
    house.cuda.memory = house.cuda._used() + 500_000
    with pytest.raises(EngineError, match=r"squares\.plan needs 1\.0 MB to run, 0\.5 MB are free"):
        engine.enqueue(slot, 1)
    engine.close()


STEPS = (
    "cudaSetDevice",
    "cudaEventRecord",
    "cudaMemcpyAsync",
    "cudaStreamWaitEvent",
    "launch",
    "cudaEventSynchronize",
)


def fail(engine: GpuEngine, cuda: FakeCuda, name: str, code: int) -> str:
    """Have the next call of ``name`` fail with a batch on the GPU; returns what is said."""
    first, second = engine.make_slots(2)
    engine.enqueue(first, 1)
    cuda.fail(name, 1, code)
    try:
        engine.enqueue(second, 1)
        engine.wait(first)
    except EngineError as error:
        return str(error)
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("code", [719, 999])
def test_a_failure_in_any_call_is_an_engine_error_and_only_a_lost_gpu_is_not_waited_for(
    name: str, code: int, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(gpu, "_lost", lost)
    engine = house.open()
    told = fail(engine, house.cuda, name, code)
    assert ("lost" in told) == (code in STICKY and name != "launch")
    before = house.cuda.count()
    engine.close()
    waited = set(house.cuda.count() - before) & set(WAITS)
    assert bool(waited) == (code not in STICKY)
    assert bool(lost) == (code in STICKY), "TensorRT's objects were freed on a lost GPU"


@every_flavour
def test_a_plan_of_another_version_or_gpu_is_refused_with_both_named(
    house: House, model: Path
) -> None:
    other = FLAVOURS[FLAVOURS.index(house.flavour) - 1]
    house.plan.write_bytes(plan_of(model, other, MAX_BATCH))
    with pytest.raises(EngineError) as caught:
        house.open()
    told = str(caught.value)
    for part in (
        str(house.plan),
        house.flavour.split()[1],
        "Fake GPU 0",
        "8.6",
        other,
        "centernetd build",
    ):
        assert part in told
    assert caught.value.exit_code == 70


@pytest.mark.parametrize("content", [b"", b"not a plan"])
def test_a_file_that_is_no_plan_is_refused(content: bytes, house: House) -> None:
    house.plan.write_bytes(content)
    with pytest.raises(EngineError, match=r"squares\.plan"):
        house.open()


GOOD = {
    "frames": ("INPUT", "UINT8", (-1, 64, 64, 3)),
    "detections": ("OUTPUT", "FLOAT", (-1, 10, 6)),
}


@pytest.mark.parametrize(
    ("tensors", "profile", "sentence"),
    [
        ({"frames": GOOD["frames"]}, (1, 8, 8), "not the plan of a prepared model"),
        ({**GOOD, "extra": GOOD["detections"]}, (1, 8, 8), "not the plan of a prepared model"),
        (
            {**GOOD, "detections": ("OUTPUT", "HALF", (-1, 10, 6))},
            (1, 8, 8),
            "not the plan of a prepared model",
        ),
        ({**GOOD, "frames": ("INPUT", "UINT8", (1, 64, 64, 3))}, (1, 1, 1), "frames has no batch"),
        (GOOD, (1, 4, 4), "built for batches of 1 to 4, and 1 to 5 are asked for"),
        (GOOD, (2, 8, 8), "built for batches of 2 to 8"),
    ],
)
def test_a_plan_that_does_not_suit_is_refused(
    tensors: dict[str, tuple[str, str, tuple[int, ...]]],
    profile: tuple[int, int, int],
    sentence: str,
    house: House,
) -> None:
    house.plan.write_bytes(
        fake_tensorrt.make_plan(house.flavour, "Fake GPU 0", "none", tensors, profile)
    )
    with pytest.raises(ModelError, match=sentence) as caught:
        house.open()
    assert caught.value.exit_code == 78


def test_what_rtx_compiled_is_kept_beside_the_plan(house: House) -> None:
    kept = house.plan.with_suffix(".runtime-cache")
    for _ in range(2):
        engine = house.open()
        (slot,) = engine.make_slots(1)
        engine.enqueue(slot, 1)
        del slot
        engine.close()
        assert kept.read_bytes().startswith(RTX.encode())
        kept.write_bytes(RTX.encode() + b" of before")
    kept.write_bytes(b"of another version")
    engine = house.open()
    engine.close()
    assert kept.read_bytes() == b"of another version", "nothing ran, so nothing was compiled"


@pytest.mark.parametrize("house", [FULL], indirect=True)
def test_full_tensorrt_needs_no_runtime_cache(house: House) -> None:
    engine = house.open()
    (slot,) = engine.make_slots(1)
    engine.enqueue(slot, 1)
    engine.close()
    assert [path.name for path in house.plan.parent.iterdir()] == ["squares.plan"]

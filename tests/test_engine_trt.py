"""The TensorRT engine over the doubles: every flavour, results, refusals, the runtime cache."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from centernetd.errors import EngineError, ModelError
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.engines.trt import RuntimeCache
from centernetd.inference.letterbox import Geometry
from centernetd.model import sealed
from tests import damages, fake_plan, fake_tensorrt
from tests.damages import Damage
from tests.fake_cuda import FakeCuda
from tests.fake_hardware import SimulatedHardware, plan_of
from tests.fake_tensorrt import FLAVOURS
from tests.gpu_box import FULL, MAX_BATCH, RTX, GpuBox, every_flavour, frames, in_thread, run
from tests.surfaces import Picture


def test_the_double_has_only_names_of_the_real_one() -> None:
    """And what not every flavour has is known here: the engine must do without it."""
    partial = {
        "CudaGraphStrategy",
        "CudaGraphStrategy.DISABLED",
        "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
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
    box: GpuBox, squares_model: Path
) -> None:
    reference = OrtCpuEngine(squares_model, "float32", MAX_BATCH, 1)
    (theirs,) = reference.make_slots(1)
    engine = box.open()
    assert engine.info.backend == box.flavour.split()[0].replace("_", "-")
    assert (engine.info.precision, engine.info.device) == ("float16", "Fake GPU 0")
    slots = engine.make_slots(2)
    for size, slot in itertools.product(range(1, MAX_BATCH + 1), slots):
        pictures = frames(size, seed=size)
        found = run(slot, pictures)["detections"]
        assert found.shape == (size, 10, 6)
        wanted = run(theirs, pictures)["detections"]
        np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert set(box.hardware.batches) == {1, 2, 4, 5}
    engine.close()
    engine.close()
    reference.close()


@pytest.mark.parametrize("box", [FULL], indirect=True)
def test_runs_are_captured_once_for_each_slot_and_size(box: GpuBox) -> None:
    engine = box.open()
    slots = engine.make_slots(2)
    for _, slot, size in itertools.product(range(10), slots, (1, 2, 4, 5)):
        run(slot, frames(size))
    assert engine.captures
    assert box.cuda.count()["cudaGraphLaunch"] == 10 * 2 * 4
    assert len(box.hardware.batches) == 2 * 2 * 4, "once before it is captured and once for it"
    engine.close()


@pytest.mark.parametrize("box", [FULL], indirect=True)
def test_a_batch_takes_as_few_calls_as_possible(box: GpuBox) -> None:
    """Each releases Python's lock, and waits for it next to the threads of all captures."""
    engine = box.open()
    (slot,) = engine.make_slots(1)
    picture = Picture((48, 48), wide=False, seed=1)
    surface = picture.surface(1, (1, 0, 0, 1), full_range=False)
    for _ in range(2):
        slot.put(0, surface, Geometry(1, 1, 0, 0))
        before = len(box.cuda.calls)
        slot.enqueue(1)
        enqueued = box.cuda.calls[before:]
        slot.wait()
    decoded = ["cudaEventRecord", "cudaStreamWaitEvent"]
    assert enqueued == [*decoded, "cudaGraphLaunch", "cudaEventRecord"]
    picture.close()
    engine.close()


@pytest.mark.parametrize("box", [FULL], indirect=True)
def test_a_plan_that_can_not_be_captured_is_run_step_by_step(
    box: GpuBox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    execute = box.hardware.execute

    def refuse(program: str, batch: int, addresses: Any, cuda_stream: int, check: Any) -> bool:
        if box.hardware.is_capturing(cuda_stream):
            return False
        return execute(program, batch, addresses, cuda_stream, check)

    engine = box.open()
    slots = engine.make_slots(2)
    wanted = run(slots[0], frames(3))["detections"].copy()
    monkeypatch.setattr(box.hardware, "execute", refuse)
    for slot in slots[::-1]:
        np.testing.assert_array_equal(run(slot, frames(3))["detections"], wanted)
    assert box.cuda.count()["cudaGraphLaunch"] == 1
    (message,) = caplog.messages
    assert message.startswith("the model's kernels are launched one by one")
    assert "the GPU refuses" in message
    engine.close()


def test_rtx_captures_by_itself(box: GpuBox) -> None:
    engine = box.open()
    run(engine.make_slots(1)[0], frames(3))
    assert not box.cuda.count()["cudaStreamBeginCapture"]
    engine.close()
    strategies = fake_tensorrt.CudaGraphStrategy
    config = SimpleNamespace(
        create_runtime_cache=lambda: SimpleNamespace(deserialize=id),
        set_runtime_cache=id,
        cuda_graph_strategy=strategies.DISABLED,
    )
    made_by = SimpleNamespace(create_runtime_config=lambda: config, create_execution_context=id)
    RuntimeCache(box.plan).create_context(made_by)
    assert config.cuda_graph_strategy is strategies.WHOLE_GRAPH_CAPTURE


def test_a_second_thread_that_enqueues_is_caught_by_the_double(box: GpuBox) -> None:
    engine = box.open()
    (slot,) = engine.make_slots(1)
    slot.enqueue(1)
    slot.wait()
    thread, reported = in_thread(lambda: slot.enqueue(1))
    thread.join()
    assert reported == ["an execution context in two threads"]
    engine.close()


def test_short_memory_for_the_context_is_reported_in_numbers(box: GpuBox) -> None:
    engine = box.open()
    (slot,) = engine.make_slots(1)
    box.cuda.memory = box.cuda._used() + 500_000
    with pytest.raises(EngineError, match=r"squares\.plan needs 1\.0 MB to run, 0\.5 MB are free"):
        slot.enqueue(1)
    engine.close()


@every_flavour
def test_a_plan_of_another_version_or_gpu_is_refused_with_both_named(
    box: GpuBox, squares_model: Path
) -> None:
    other = FLAVOURS[FLAVOURS.index(box.flavour) - 1]
    box.plan.write_bytes(plan_of(squares_model, other, MAX_BATCH))
    with pytest.raises(EngineError) as caught:
        box.open()
    reported = str(caught.value)
    for part in (
        str(box.plan),
        box.flavour.split()[1],
        "Fake GPU 0",
        "8.6",
        other,
        "centernetd build",
    ):
        assert part in reported
    assert caught.value.exit_code == 70


@pytest.mark.parametrize("content", [b"", b"not a plan"])
def test_a_file_that_is_no_plan_is_refused(content: bytes, box: GpuBox) -> None:
    box.plan.write_bytes(content)
    with pytest.raises(EngineError, match=r"squares\.plan"):
        box.open()


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
        (GOOD, (1, 4, 4), "built for batches of 1 to 4, and 1 to 5 are requested"),
        (GOOD, (2, 8, 8), "built for batches of 2 to 8"),
    ],
)
def test_a_plan_that_does_not_suit_is_refused(
    tensors: dict[str, tuple[str, str, tuple[int, ...]]],
    profile: tuple[int, int, int],
    sentence: str,
    box: GpuBox,
) -> None:
    box.plan.write_bytes(fake_plan.make_plan(box.flavour, "Fake GPU 0", "none", tensors, profile))
    with pytest.raises(ModelError, match=sentence) as caught:
        box.open()
    assert caught.value.exit_code == 78


def test_what_rtx_compiled_is_kept_beside_the_plan(box: GpuBox) -> None:
    kept = box.plan.with_suffix(".runtime-cache")
    for _ in range(2):
        engine = box.open()
        (slot,) = engine.make_slots(1)
        slot.enqueue(1)
        del slot
        engine.close()
        assert sealed.read(kept)[0].startswith(RTX.encode())
        sealed.write(kept, RTX.encode() + b" of before", {})
    sealed.write(kept, b"of another version", {})
    engine = box.open()
    engine.close()
    assert sealed.read(kept)[0] == b"of another version", "nothing ran, so nothing was compiled"


def writable_by_others(path: Path) -> None:
    path.chmod(0o666)


def flipped(path: Path) -> None:
    """Change a byte behind the first, by which TensorRT knows its own."""
    content = bytearray(path.read_bytes())
    content[len(RTX) + 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [*damages.ANY, writable_by_others, flipped])
def test_compiled_kernels_that_are_damaged_or_within_others_reach_are_not_loaded(
    damage: Damage, tmp_path: Path
) -> None:
    sealed.write(tmp_path / "squares.runtime-cache", RTX.encode() + b": of before", {})
    loaded: list[bytes] = []
    cache = SimpleNamespace(deserialize=loaded.append)
    config = SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=id)
    engine = SimpleNamespace(create_runtime_config=lambda: config, create_execution_context=id)
    RuntimeCache(tmp_path / "squares.plan").create_context(engine)
    assert loaded.pop() == RTX.encode() + b": of before"
    damage(tmp_path / "squares.runtime-cache")
    RuntimeCache(tmp_path / "squares.plan").create_context(engine)
    assert not loaded


@pytest.mark.parametrize("box", [FULL], indirect=True)
def test_full_tensorrt_needs_no_runtime_cache(box: GpuBox) -> None:
    engine = box.open()
    (slot,) = engine.make_slots(1)
    slot.enqueue(1)
    engine.close()
    assert [path.name for path in box.plan.parent.iterdir()] == ["squares.plan"]

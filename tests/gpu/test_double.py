"""The TensorRT engine on a real GPU, the double replaying a PyTorch network."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.cuda import Device, DeviceBuffer, live
from centernetd.errors import EngineError
from centernetd.inference.engines.gpu import GpuEngine
from tests.fake_cuda import pageable
from tests.gpu.probe import entries, on_gpu

if TYPE_CHECKING:
    from tests.gpu.hardware import TorchHardware

pytestmark = on_gpu
MAX_BATCH = 8


@pytest.fixture(scope="module")
def hardware() -> "TorchHardware":
    from tests.gpu import network
    from tests.gpu.hardware import TorchHardware

    return TorchHardware(network.make())


@pytest.fixture
def engine(hardware: "TorchHardware", tmp_path: Path) -> Iterator[GpuEngine]:
    from tests.gpu.hardware import open_double

    with closing(open_double(tmp_path, hardware, MAX_BATCH)) as made:
        yield made


def noise(count: int, seed: int) -> NDArray[np.uint8]:
    """Return pictures that differ by much: each is darker than the one before."""
    pictures = np.random.default_rng(seed).integers(0, 256, (count, 512, 512, 3), np.uint8)
    return pictures // np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None]


def test_each_row_of_each_bucket_is_what_the_network_gives(
    engine: GpuEngine, hardware: "TorchHardware"
) -> None:
    """The detections of a batch are the network's own on those very rows, in their order."""
    import torch

    slots = engine.make_slots(2)
    for size, slot in itertools.product(range(1, MAX_BATCH + 1), slots):
        bucket = engine.bucket(size)
        pictures = noise(bucket, seed=size)
        slot.rows[:size] = pictures[:size]
        slot.enqueue(size)
        found = slot.wait()["detections"]
        with torch.inference_mode():
            wanted = hardware._network(torch.from_numpy(pictures).cuda())[:size].cpu().numpy()
        assert found.shape == (size, 100, 6)
        np.testing.assert_allclose(found[..., 4], wanted[..., 4], atol=2e-3)
        for row, other in itertools.permutations(range(size), 2):
            own = np.abs(found[row] - wanted[row]).sum()
            assert own < np.abs(found[row] - wanted[other]).sum()


def test_batches_on_the_gpu_at_once_stay_apart(engine: GpuEngine) -> None:
    slots = engine.make_slots(3)
    pictures = [noise(4, seed) for seed in range(12)]

    def start(number: int) -> None:
        slots[number % 3].rows[:4] = pictures[number]
        slots[number % 3].enqueue(4)

    alone = []
    for number in range(12):
        start(number)
        alone.append(slots[number % 3].wait()["detections"].copy())
    for number in range(3):
        start(number)
    for number in range(12):
        found = slots[number % 3].wait()["detections"].copy()
        np.testing.assert_allclose(found[..., 4], alone[number][..., 4], atol=2e-3)
        if number + 3 < 12:
            start(number + 3)


def test_durations_are_the_gpus(engine: GpuEngine) -> None:
    (slot,) = engine.make_slots(1)
    for _ in range(5):
        slot.enqueue(MAX_BATCH)
        slot.wait()
    took = slot.durations()
    assert set(took) == {"copy_in", "execute", "copy_out"}
    assert took["execute"] > took["copy_in"] > took["copy_out"] > 0


def test_host_memory_is_no_place_for_a_tensor(hardware: "TorchHardware") -> None:
    assert hardware.device_bytes_from(pageable(4096)) == 0


def test_nothing_is_allocated_after_warming_up(
    engine: GpuEngine, hardware: "TorchHardware"
) -> None:
    slots = engine.make_slots(2)
    sizes = (1, 2, 4, 8)
    for slot, size in itertools.product(slots, sizes):
        slot.enqueue(size)
        slot.wait()
    captured, free, held = hardware.captured, Device(0).memory()[0], dict(live)
    for number in range(300):
        slot = slots[number % 2]
        slot.enqueue(sizes[number % 4])
        slot.wait()
    assert (hardware.captured, Device(0).memory()[0], dict(live)) == (captured, free, held)


def test_a_hundred_engines_leave_nothing(hardware: "TorchHardware", tmp_path: Path) -> None:
    from tests.gpu.hardware import open_double

    def once() -> None:
        with closing(open_double(tmp_path, hardware, MAX_BATCH)) as engine:
            slots = engine.make_slots(2)
            slots[0].rows[:] = 0
            engine.copy_in.synchronize()

    for _ in range(3):
        once()
    before = held()
    for _ in range(100):
        once()
    assert held() == before
    assert not +live


def held() -> dict[str, int]:
    """What this process holds of the device and of the system."""
    return {
        "device": Device(0).memory()[0],
        "threads": threading.active_count(),
        "tasks": entries("/proc/self/task"),
        "descriptors": entries("/proc/self/fd"),
    }


def test_more_than_the_gpu_has_is_reported_in_numbers() -> None:
    with pytest.raises(EngineError, match=r"GPU memory is short: [\d,.]+ MB .* are free"):
        DeviceBuffer(1 << 42)
    assert not +live

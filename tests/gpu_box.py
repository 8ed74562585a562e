"""A box with a simulated GPU and TensorRT's double on it, and what tests do there."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.cuda import live
from centernetd.inference.engines import Slot, Tensors
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.inference.engines.trt import open_tensorrt
from centernetd.plan import Binding
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, fake_cuda, fake_tensorrt
from tests.fake_cuda import FakeCuda
from tests.fake_hardware import SimulatedHardware, plan_of
from tests.fake_tensorrt import FLAVOURS, plan_file
from tests.models import draw, squares

MAX_BATCH = 5  # no power of two, so that the last bucket is a smaller step
FULL, RTX = FLAVOURS[2], FLAVOURS[3]

every_flavour = pytest.mark.parametrize("box", FLAVOURS, indirect=True)


@pytest.fixture(scope="session")
def squares_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared network that finds rectangles in pictures of 64 by 64."""
    folder = tmp_path_factory.mktemp("engine")
    source = exports.write(squares((64, 64)), folder / "export.onnx")
    prepare(source, folder / "prepared.onnx", PrepareOptions(top_k=10))
    return folder / "prepared.onnx"


@dataclass
class GpuBox:
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


def make_box(model: Path, folder: Path, flavour: str, stack: ExitStack) -> GpuBox:
    cuda = stack.enter_context(fake_cuda.installed(FakeCuda(devices=2)))
    hardware = SimulatedHardware(cuda)
    plan = folder / "squares.plan"
    plan.write_bytes(plan_of(model, flavour, MAX_BATCH))
    return GpuBox(cuda, hardware, plan, flavour, fake_tensorrt.bind(flavour, hardware))


@pytest.fixture(params=[RTX])
def box(squares_model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GpuBox]:
    """A box, everything on which must have been given back in the end."""
    with ExitStack() as stack:
        made = make_box(squares_model, tmp_path, request.param, stack)
        yield made
        assert made.cuda.lost or not any(made.cuda.live().values())
        assert made.cuda.lost or not +live


def frames(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return pictures with a rectangle each, no two alike."""
    spots = np.random.default_rng(seed).integers(4, 30, (count, 2))
    return np.stack(
        [
            draw((64, 64), (n % 3, (int(x), int(y), int(x) + 12 + n, int(y) + 16)))
            for n, (x, y) in enumerate(spots)
        ]
    )


def run(slot: Slot, pictures: NDArray[np.uint8]) -> Tensors:
    slot.rows[: len(pictures)] = pictures
    slot.enqueue(len(pictures))
    return slot.wait()


def in_thread(do: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Do it in another thread; the list gets its result, or the misuse that was detected."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(do())
        except AssertionError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def run_once(box: GpuBox) -> None:
    with closing(box.open()) as engine:
        (slot,) = engine.make_slots(1)
        slot.enqueue(1)
        slot.wait()

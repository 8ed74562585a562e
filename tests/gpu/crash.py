"""Runs the daemon on the double and, in the middle of its video, loses the GPU; prints when."""

import itertools
import sys
import tempfile
import time
from pathlib import Path

from centernetd.cli import main
from centernetd.inference.engines import Backend
from centernetd.inference.engines.gpu import GpuEngine, GpuSlot
from centernetd.run import loading
from tests.gpu import network
from tests.gpu.hardware import TorchHardware, crash, open_double

_AT = 30  # batches, those of the warm-up included


def lose_the_gpu() -> None:
    """Have one of the batches of this process crash the GPU."""
    enqueue, numbers = GpuSlot.enqueue, itertools.count(1)

    def crash_and_enqueue(slot: GpuSlot, size: int) -> None:
        if next(numbers) == _AT:
            crash(slot._engine.compute.address)
            print(f"crashed at {time.monotonic()}", flush=True)
        enqueue(slot, size)

    setattr(GpuSlot, "enqueue", crash_and_enqueue)  # noqa: B010 - a method


def run(config: str) -> None:
    """Run ``centernetd run -c config`` with the double as its engine."""
    hardware = TorchHardware(network.make())

    def open_onnx(
        backend: Backend, model: Path, precision: str, device: int, max_batch: int, concurrency: int
    ) -> GpuEngine:
        return open_double(Path(tempfile.mkdtemp()), hardware, max_batch)

    setattr(loading, "open_onnx", open_onnx)  # noqa: B010 - a name that it imports
    lose_the_gpu()
    main(["run", "-c", config])


if __name__ == "__main__":
    run(sys.argv[1])

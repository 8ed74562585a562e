"""Runs the daemon on the double and, at its tenth batch, loses the GPU; prints when."""

import sys
import tempfile
import time
from pathlib import Path

from centernetd.cli import main
from centernetd.inference.engines import Backend
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.run import loading
from tests.gpu import network
from tests.gpu.hardware import TorchHardware, crash, open_double

_AT = 10


class CrashingHardware(TorchHardware):
    """Crashes once warmed up and ten batches on."""

    def execute(self, *arguments):  # type: ignore[no-untyped-def]
        captured = self.captured
        done = super().execute(*arguments)
        self.batches = 0 if self.captured > captured else getattr(self, "batches", 0) + 1
        if self.batches == _AT:
            crash(arguments[3])
            print(f"crashed at {time.monotonic()}", flush=True)
        return done


def run(config: str) -> None:
    """Run ``centernetd run -c config`` with the double as its engine."""
    hardware = CrashingHardware(network.make())

    def open_onnx(
        backend: Backend, model: Path, precision: str, device: int, max_batch: int, concurrency: int
    ) -> GpuEngine:
        return open_double(Path(tempfile.mkdtemp()), hardware, max_batch)

    setattr(loading, "open_onnx", open_onnx)  # noqa: B010 - a name that it imports
    main(["run", "-c", config])


if __name__ == "__main__":
    run(sys.argv[1])

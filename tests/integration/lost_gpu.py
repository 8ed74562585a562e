"""Runs the daemon on the doubles of cuda-python and TensorRT, as a process of its own.

``python -m tests.integration.lost_gpu CONFIG [CALL CODE]``: with CALL, the 40th call of that
function answers CODE, as does everything after it where that is a sticky error.
"""

import sys
import tempfile
import time
from pathlib import Path

from centernetd.cli import main
from centernetd.inference.engines import Backend
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.inference.engines.trt import open_tensorrt
from centernetd.run import loading
from tests import fake_cuda, fake_tensorrt
from tests.fake_cuda import FakeCuda
from tests.fake_hardware import SimulatedHardware, plan_of

_FLAVOUR = fake_tensorrt.FLAVOURS[-1]
_AT = 40


class TellingCuda(FakeCuda):
    """Says on standard error at which time it was lost."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "lost" and value and not self.lost:
            print(f"lost at {time.time():.3f}", file=sys.stderr, flush=True)
        super().__setattr__(name, value)


def run(config: str, call: str = "", code: str = "0") -> None:
    """Run ``centernetd run -c config``."""
    cuda = TellingCuda()
    if call:
        cuda.fail(call, _AT, int(code))
    hardware = SimulatedHardware(cuda)

    def open_onnx(
        backend: Backend, model: Path, precision: str, device: int, max_batch: int, concurrency: int
    ) -> GpuEngine:
        content = plan_of(model, _FLAVOUR, max_batch)
        plan = fake_tensorrt.plan_file(Path(tempfile.mkdtemp()) / "net.plan", content)
        return open_tensorrt(plan, fake_tensorrt.bind(_FLAVOUR, hardware), device, max_batch)

    setattr(loading, "open_onnx", open_onnx)  # noqa: B010 - a name that it imports
    with fake_cuda.installed(cuda):
        main(["run", "-c", config])


if __name__ == "__main__":
    run(*sys.argv[1:])

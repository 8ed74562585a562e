"""The CPU as the double's hardware: networks run by ONNX Runtime on the simulated GPU."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tests.fake_cuda import FakeCuda
from tests.fake_plan import make_plan
from tests.onnx_sessions import open_session
from tests.simulated_gpu import SUCCESS


class SimulatedHardware:
    """Runs prepared ONNX models, each ``seconds`` a batch, when the simulated GPU comes to it."""

    name = "Fake GPU 0"

    def __init__(self, fake: FakeCuda, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.batches: list[int] = []
        self._cuda = fake
        self._sessions: dict[str, ort.InferenceSession] = {}

    def device_bytes_from(self, address: int) -> int:
        return self._cuda.device_bytes_from(address)

    def reserve(self, nbytes: int) -> object | None:
        status, address = self._cuda.cudaMalloc(nbytes)
        return None if status else _Memory(self._cuda, address)

    def is_capturing(self, cuda_stream: int) -> bool:
        return self._cuda.is_capturing(cuda_stream)

    def execute(
        self,
        program: str,
        batch: int,
        addresses: Mapping[str, int],
        cuda_stream: int,
        check: Callable[[], None] = lambda: None,
    ) -> bool:
        if self._cuda._begin("launch"):
            return False
        session = self._sessions.setdefault(program, open_session(Path(program)))
        addresses = dict(addresses)
        self.batches.append(batch)

        def run() -> None:
            check()
            (frames,) = session.get_inputs()
            shape = (batch, *frames.shape[1:])
            pixels = self._cuda.device_view(addresses[frames.name], int(np.prod(shape)))
            outputs = session.run(None, {frames.name: pixels.reshape(shape)})
            for argument, output in zip(session.get_outputs(), outputs, strict=True):
                content = output.view(np.uint8).reshape(-1)
                self._cuda.device_view(addresses[argument.name], content.size)[:] = content

        self._cuda.launch(cuda_stream, "execute", run, self.seconds)
        return True


class _Memory:
    """A context's device memory, which goes with the context, as in TensorRT."""

    def __init__(self, fake: FakeCuda, address: int) -> None:
        self._cuda = fake
        self._address = address

    def __del__(self) -> None:
        status, *_ = self._cuda.cudaFree(self._address)
        assert status in (SUCCESS, self._cuda.lost)


def plan_of(model: Path, flavour: str, largest: int) -> bytes:
    """Return the double's plan of the prepared ``model``."""
    session = open_session(model)
    tensors = {
        argument.name: (mode, {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT"}[argument.type])
        for mode, arguments in (("INPUT", session.get_inputs()), ("OUTPUT", session.get_outputs()))
        for argument in arguments
    }
    shapes = {a.name: [-1, *a.shape[1:]] for a in (*session.get_inputs(), *session.get_outputs())}
    return make_plan(
        flavour,
        SimulatedHardware.name,
        str(model),
        {name: (*kind, shapes[name]) for name, kind in tensors.items()},
        (1, largest, largest),
    )

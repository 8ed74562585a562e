"""A strict double of what the CUDA engine uses of ONNX Runtime, over the simulated GPU.

Like the real one it leaves pinned memory behind every run that it isn't let wait for. The next
run that it is enqueues a callback that frees it, on the CUDA stream, for which it doesn't wait
itself. Where a session goes before all of it is freed, the process is aborted.

Its runs can be captured in a CUDA graph, which reads that memory whenever it is launched, but not
if they are to be waited for, nor the first two of a shape: those plan and allocate. A session
whose batches are not all of one size would plan for seconds, so that is refused.
"""

import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from centernetd.inference.engines.ort_cuda import PROVIDER
from tests.fake_cuda import FakeCuda
from tests.fake_hardware import SimulatedHardware
from tests.onnx_sessions import open_session

_UNCAPTURABLE = 2  # runs of a new shape
_DONT_WAIT = "disable_synchronize_execution_providers"


class RunOptions:
    """As the real one, whose entries can't be read back."""

    def __init__(self) -> None:
        self.log_severity_level = -1
        self._entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self._entries[name] = value

    @property
    def _waits(self) -> bool:
        return self._entries.get(_DONT_WAIT, "0") == "0"


class SessionOptions:
    def __init__(self) -> None:
        self.intra_op_num_threads = 0
        self.log_severity_level = -1

    def add_session_config_entry(self, name: str, value: str) -> None:
        assert (name, value) == ("session.intra_op.allow_spinning", "0")


class IOBinding:
    def __init__(self) -> None:
        self._bound: dict[str, tuple[Sequence[int], int]] = {}

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: np.dtype[Any],
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        assert device_type == "cuda"
        self._bound[name] = (shape, buffer_ptr)

    bind_output = bind_input


@dataclass
class FakeOnnxRuntime:
    """The module; if it is not ``capturable``, the model has nodes that wait for the GPU."""

    cuda: FakeCuda
    hardware: SimulatedHardware
    capturable: bool = True
    sessions: "list[weakref.ref[_Session]]" = field(default_factory=list)
    most_left: int = 0
    aborted: bool = False
    providers: Sequence[str] = (PROVIDER, "CPUExecutionProvider")
    failing: str = ""
    RunOptions: type = RunOptions
    SessionOptions: type = SessionOptions
    IOBinding: type = IOBinding
    settings: dict[str, str] = field(default_factory=dict)

    def forget(self) -> None:
        """Do not blame anybody for what is left, as the process ends."""
        for each in self.sessions:
            if session := each():
                session.left.clear()

    def set_default_logger_severity(self, severity: int) -> None:
        assert severity == 4

    @property
    def left(self) -> int:
        """The runs whose pinned memory is still to be freed."""
        return sum(len(session.left) for each in self.sessions if (session := each()))

    def preload_dlls(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        assert main, "what it prints is caught by replacing the process's stdout"
        sys.stdout.write("Failed to load libnothing.so")

    def InferenceSession(
        self, path: str, options: Any, providers: Sequence[Any], enable_fallback: int
    ) -> "_Session":
        (name, self.settings), _ = providers
        assert name == PROVIDER
        assert enable_fallback == 0
        session = _Session(self, path, int(self.settings["user_compute_stream"]))
        self.sessions.append(weakref.ref(session))
        return session


@dataclass
class _Pinned:
    """What a run copies to the GPU."""

    freed: bool = False

    def read(self) -> None:
        assert not self.freed, "a graph reads pinned memory that was freed"


class _Session:
    def __init__(self, ort: FakeOnnxRuntime, path: str, stream: int) -> None:
        self._ort = ort
        self._stream = stream
        self.left: list[_Pinned] = []
        self._path = path
        self._real: Any = open_session(Path(path))
        self._batch, self._runs = 0, 0

    def get_providers(self) -> Sequence[str]:
        return self._ort.providers

    def get_inputs(self) -> Sequence[Any]:
        return list(self._real.get_inputs())

    def get_outputs(self) -> Sequence[Any]:
        return list(self._real.get_outputs())

    def io_binding(self) -> IOBinding:
        return IOBinding()

    def run_with_iobinding(self, binding: IOBinding, run_options: RunOptions) -> None:
        if self._ort.failing:
            raise RuntimeError(self._ort.failing)
        batch = self._check(binding)
        addresses = {name: address for name, (_, address) in binding._bound.items()}
        stream, cuda = self._stream, self._ort.cuda
        assert self._batch in (0, batch), "all convolutions would be planned again"
        self._batch, self._runs = batch, self._runs + 1
        capturable = self._ort.capturable and self._runs > _UNCAPTURABLE and not run_options._waits
        if not capturable and cuda.spoil(stream):
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")
        if not self._ort.hardware.execute(self._path, batch, addresses, stream):
            raise RuntimeError("CUDA failure 719: unspecified launch failure\nmore of it")
        pinned = _Pinned()
        cuda.launch(stream, "small copies", pinned.read, 0.0)
        self.left.append(pinned)
        self._ort.most_left = max(self._ort.most_left, len(self.left))
        if run_options._waits:
            cuda.launch(stream, "tidy", partial(self._tidy, len(self.left)), 0.0)

    def _tidy(self, runs: int) -> None:
        for pinned in self.left[:runs]:
            pinned.freed = True
        del self.left[:runs]

    def _check(self, binding: IOBinding) -> int:
        tensors = [*self.get_inputs(), *self.get_outputs()]
        assert binding._bound.keys() == {tensor.name for tensor in tensors}
        for tensor in tensors:
            shape, address = binding._bound[tensor.name]
            width = {"tensor(uint8)": 1, "tensor(float)": 4}[tensor.type]
            assert list(shape[1:]) == tensor.shape[1:]
            assert self._ort.cuda.device_bytes_from(address) >= prod(shape) * width
        return binding._bound["frames"][0][0]

    def __del__(self) -> None:
        if self.left:
            self._ort.aborted = True

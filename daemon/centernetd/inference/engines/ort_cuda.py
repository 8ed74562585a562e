"""ONNX Runtime on the GPU, using our buffers and our CUDA stream."""

import contextlib
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from centernetd.cuda import CudaStream, Device, DeviceBuffer
from centernetd.errors import EngineError, ModelError
from centernetd.inference.engines.engine import EngineInfo
from centernetd.inference.engines.gpu import GpuEngine, GpuModel, Tensor
from centernetd.inference.engines.ort_cpu import ERRORS_ONLY
from centernetd.model.files import first_line

PROVIDER = "CUDAExecutionProvider"
TIDY_EVERY = 64
"""Number of runs per run that is waited for: only then does ONNX Runtime free the pinned memory
used by small copies in each run."""
RUNS_TO_PLAN = 2
"""The first run plans the convolutions, the second allocates by the memory pattern of the first."""
_FATAL_ONLY = 4
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(float)": np.dtype(np.float32),
}


def open_onnxruntime_cuda(model: Path, index: int, precision: str, max_batch: int) -> GpuEngine:
    """Return an engine that runs the prepared ``model`` on GPU ``index``.

    Raises
    ------
    EngineError
        When the GPU is missing or ONNX Runtime can't use it.
    ModelError
        When the file can't be loaded.
    """
    return GpuEngine(
        index,
        max_batch,
        lambda device, cuda_stream: OrtCudaModel(model, device, cuda_stream, precision, max_batch),
    )


class OrtCudaModel(GpuModel):
    """A session for each batch size, on the CUDA stream that it is prepared for.

    A session plans each convolution again whenever its input shape differs from the last, which
    takes seconds for a whole network. So each only ever runs one shape. That of the largest is
    planned when it is first run, the others by `prepare`.

    Their runs are captured here and not by ONNX Runtime itself (``enable_cuda_graph``), which
    keeps all other threads from allocating GPU memory meanwhile, as decoders do, and whose older
    releases wait for the GPU in each launch.
    """

    capturable = True

    def __init__(
        self, model: Path, device: Device, cuda_stream: CudaStream, precision: str, max_batch: int
    ) -> None:
        """Load ``model``; raises as `open_onnxruntime_cuda` does."""
        _find_libraries()
        self._open = partial(SizedSession, model, device)
        largest = self._open(cuda_stream, max_batch)
        self._sessions = {max_batch: largest}
        self._tensors = contextlib.ExitStack()  # the memory that others were planned with
        self.sizes = [max_batch]
        self.input, self.outputs = largest.input, largest.outputs
        self.info = EngineInfo("onnxruntime-cuda", precision, device.name)

    def launch(self, batch: int, addresses: Mapping[str, int], *, captured: bool = False) -> None:
        """Enqueue one run on ``batch`` rows.

        Raises
        ------
        EngineError
            When ONNX Runtime fails, or its run can't be captured.
        """
        self._sessions[batch].run(addresses, keep=captured)

    def close(self) -> None:
        """Free the sessions; idempotent. The memory of their last runs must still exist.

        Raises
        ------
        EngineError
            When ONNX Runtime fails; no session is freed then.
        """
        for session in self._sessions.values():
            session.tidy()
        self._sessions = {}
        self._tensors.close()

    def rehearse(self, batch: int, addresses: Mapping[str, int]) -> None:
        """Plan, unless that is done.

        Raises
        ------
        EngineError
            When ONNX Runtime fails.
        """
        self._sessions[batch].plan(addresses)

    def prepare(self, batch: int, cuda_stream: CudaStream) -> None:
        """Open and plan a session for this size; raises as `GpuModel.prepare` does."""
        self._sessions[batch] = session = self._open(cuda_stream, batch)
        buffers = {
            tensor.name: self._tensors.enter_context(DeviceBuffer(batch * tensor.row_bytes))
            for tensor in (self.input, *self.outputs)
        }
        session.plan({name: buffer.address for name, buffer in buffers.items()})


class SizedSession:
    """A session that runs batches of ``size``, and rarely waits for them.

    Memory released by a run is freed by the next run that is waited for. A session that closes
    with some left frees it in a callback on the CUDA stream, where CUDA forbids it, and the
    process aborts. So one in `TIDY_EVERY` runs and the last one are waited for. Runs with
    ``keep`` are not: graphs captured from them use that memory again.
    """

    def __init__(self, model: Path, device: Device, cuda_stream: CudaStream, size: int) -> None:
        """Load ``model``; raises as `open_onnxruntime_cuda` does."""
        self._cuda_stream = cuda_stream
        self._session: Any = _open_session(model, device, cuda_stream)
        self._size = size
        self._place = ("cuda", device.index)
        (frames,) = self._session.get_inputs()
        self.input = _tensor(frames)
        self.outputs = [_tensor(output) for output in self._session.get_outputs()]
        self._waiting = _run_options(wait=True)
        self._passing = _run_options(wait=False)
        self._bindings: dict[int, ort.IOBinding] = {}  # by the address of the input
        self._untidied = 0  # runs since the last one that was waited for
        self._planned = False

    def plan(self, addresses: Mapping[str, int]) -> None:
        """Enqueue the runs that plan, unless that was done; raises as `run`."""
        if not self._planned:
            for _ in range(RUNS_TO_PLAN):
                self.run(addresses, keep=True)
            self._planned = True

    def run(self, addresses: Mapping[str, int], *, keep: bool = False) -> None:
        """Enqueue one run.

        Raises
        ------
        EngineError
            When ONNX Runtime fails.
        """
        address = addresses[self.input.name]
        binding = self._bindings.get(address)
        if binding is None:
            binding = self._bindings[address] = self._bind(addresses)
        self._run(binding, wait=not keep and self._untidied + 1 >= TIDY_EVERY)

    def tidy(self) -> None:
        """Free the memory that runs left, by one more, which is waited for; raises as `run`."""
        if self._untidied:
            self._run(next(iter(self._bindings.values())), wait=True)
            self._cuda_stream.synchronize()  # it is freed by a callback on this stream

    def _run(self, binding: ort.IOBinding, *, wait: bool) -> None:
        try:
            self._session.run_with_iobinding(binding, self._waiting if wait else self._passing)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise EngineError(f"ONNX Runtime failed on the GPU: {first_line(error)}") from None
        self._untidied = 0 if wait else self._untidied + 1

    def _bind(self, addresses: Mapping[str, int]) -> ort.IOBinding:
        binding = self._session.io_binding()
        for tensor, bind in [
            (self.input, binding.bind_input),
            *((output, binding.bind_output) for output in self.outputs),
        ]:
            shape = (self._size, *tensor.shape)
            bind(tensor.name, *self._place, tensor.dtype, shape, addresses[tensor.name])
        return binding


def _run_options(*, wait: bool) -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = _FATAL_ONLY  # errors are raised, and captures tried again
    options.add_run_config_entry("disable_synchronize_execution_providers", str(int(not wait)))
    return options


def _find_libraries() -> None:
    """Load the libraries of CUDA and cuDNN, wherever ONNX Runtime finds them."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints which it does not find
        ort.preload_dlls()


def _open_session(model: Path, device: Device, cuda_stream: CudaStream) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {
        "device_id": str(device.index),
        "user_compute_stream": str(cuda_stream.address),
        "use_tf32": "0",  # on by default, and changes float32 results by 4e-3
        "cudnn_conv_algo_search": "HEURISTIC",  # quicker than to try all, and chooses no worse
        "arena_extend_strategy": "kSameAsRequested",
    }
    ort.set_default_logger_severity(_FATAL_ONLY)  # else each fusion that cuDNN lacks is an error
    try:
        session = ort.InferenceSession(
            str(model),
            options,
            providers=[(PROVIDER, settings), "CPUExecutionProvider"],
            enable_fallback=0,  # otherwise it would silently run on the CPU
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f"{model}: ONNX Runtime can't load it: {first_line(error)}") from None
    if PROVIDER not in session.get_providers():
        raise EngineError(
            "ONNX Runtime can't use the GPU, since libraries of CUDA or cuDNN are missing: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return session


def _tensor(argument: ort.NodeArg) -> Tensor:
    _, *shape = argument.shape
    return Tensor(argument.name, tuple(shape), _TYPES[argument.type])

"""ONNX Runtime on the GPU, using our buffers and our CUDA stream."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from centernetd.cuda import CudaStream, Device
from centernetd.errors import EngineError, ModelError
from centernetd.inference.engines.engine import EngineInfo
from centernetd.inference.engines.gpu import GpuEngine, GpuModel, Tensor
from centernetd.inference.engines.ort_cpu import ERRORS_ONLY
from centernetd.model.files import first_line

PROVIDER = "CUDAExecutionProvider"
TIDY_EVERY = 64
"""Number of runs per run that is waited for: only then does ONNX Runtime free the pinned memory
used by small copies in each run."""
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
        lambda device, cuda_stream: OrtCudaModel(model, device, cuda_stream, precision),
    )


class OrtCudaModel(GpuModel):
    """An ONNX Runtime session that enqueues on a given CUDA stream and rarely waits for it.

    Memory released by a run is freed by the next run that is waited for. A session that closes
    with some left frees it in a callback on the CUDA stream, where CUDA forbids it, and the
    process aborts. So one in `TIDY_EVERY` runs and the last one are waited for.

    Each convolution is planned again whenever its input shape differs from the last, which
    takes seconds for a whole network. So only one batch size is ever run.
    """

    one_shape = True

    def __init__(
        self, model: Path, device: Device, cuda_stream: CudaStream, precision: str
    ) -> None:
        """Load ``model``; raises as `open_onnxruntime_cuda` does."""
        self._session: Any = _open_session(model, device, cuda_stream)
        self._index = device.index
        self._cuda_stream = cuda_stream
        (frames,) = self._session.get_inputs()
        self.input = _tensor(frames)
        self.outputs = [_tensor(output) for output in self._session.get_outputs()]
        self.info = EngineInfo("onnxruntime-cuda", precision, device.name)
        self._waiting = _run_options(wait=True)
        self._passing = _run_options(wait=False)
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}
        self._untidied = 0  # runs since the last one that was waited for

    def launch(self, batch: int, addresses: Mapping[str, int]) -> None:
        """Enqueue one run on ``batch`` rows.

        Raises
        ------
        EngineError
            When ONNX Runtime fails.
        """
        key = (batch, addresses[self.input.name])
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(batch, addresses)
        self._run(binding, wait=self._untidied + 1 == TIDY_EVERY)

    def close(self) -> None:
        """Free the session; idempotent. The memory of its last run must still exist.

        Raises
        ------
        EngineError
            When ONNX Runtime fails; the session is not freed then.
        """
        if self._untidied:
            self._run(next(iter(self._bindings.values())), wait=True)
            self._cuda_stream.synchronize()  # the memory is freed by a callback on this stream
        self._bindings.clear()
        self._session = None

    def _run(self, binding: ort.IOBinding, *, wait: bool) -> None:
        try:
            self._session.run_with_iobinding(binding, self._waiting if wait else self._passing)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise EngineError(f"ONNX Runtime failed on the GPU: {first_line(error)}") from None
        self._untidied = 0 if wait else self._untidied + 1

    def _bind(self, batch: int, addresses: Mapping[str, int]) -> ort.IOBinding:
        binding = self._session.io_binding()
        place = ("cuda", self._index)
        for tensor, bind in [
            (self.input, binding.bind_input),
            *((output, binding.bind_output) for output in self.outputs),
        ]:
            shape = (batch, *tensor.shape)
            bind(tensor.name, *place, tensor.dtype, shape, addresses[tensor.name])
        return binding


def _run_options(*, wait: bool) -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = ERRORS_ONLY
    options.add_run_config_entry("disable_synchronize_execution_providers", str(int(not wait)))
    return options


def _open_session(model: Path, device: Device, cuda_stream: CudaStream) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {
        "device_id": str(device.index),
        "user_compute_stream": str(cuda_stream.address),
        "use_tf32": "0",  # on by default, and changes float32 results by 4e-3
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints which libraries it does not find
        ort.preload_dlls()
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

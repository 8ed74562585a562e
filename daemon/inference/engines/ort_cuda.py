"""ONNX Runtime on the GPU, on our own buffers and our own CUDA stream."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from daemon.errors import EngineError, ModelError
from daemon.inference.cuda import Device, Stream
from daemon.inference.engines.engine import EngineInfo
from daemon.inference.engines.gpu import GpuEngine, Tensor
from daemon.inference.engines.ort import ERRORS_ONLY, first_line

PROVIDER = "CUDAExecutionProvider"
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(float)": np.dtype(np.float32),
}


def open_onnxruntime_cuda(model: Path, index: int, precision: str, max_batch: int) -> GpuEngine:
    """Return an engine that runs the prepared ``model`` on GPU ``index``.

    Raises
    ------
    EngineError
        When there is no GPU, or ONNX Runtime can't use it.
    ModelError
        When the file can't be loaded.
    """
    return GpuEngine(
        index,
        max_batch,
        lambda device, stream: OrtCudaNetwork(model, device, stream, precision),
    )


class OrtCudaNetwork:
    """A session of ONNX Runtime that enqueues on a given stream and doesn't wait for it.

    Each convolution plans anew whenever its input has another shape than the time before,
    which takes seconds for a whole network: so only one batch size is ever run.
    """

    one_shape = True

    def __init__(self, model: Path, device: Device, stream: Stream, precision: str) -> None:
        """Load ``model``; raises as `open_onnxruntime_cuda` does."""
        self._session: Any = _open_session(model, device, stream)
        self._index = device.index
        (frames,) = self._session.get_inputs()
        self.input = _tensor(frames)
        self.outputs = [_tensor(output) for output in self._session.get_outputs()]
        self.info = EngineInfo("onnxruntime-cuda", precision, device.name)
        self._options = ort.RunOptions()
        self._options.log_severity_level = ERRORS_ONLY
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}

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
        try:
            self._session.run_with_iobinding(binding, self._options)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise EngineError(f"ONNX Runtime failed on the GPU: {first_line(error)}") from None

    def close(self) -> None:
        """Free the session; may be called twice."""
        self._bindings.clear()
        self._session = None

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


def _open_session(model: Path, device: Device, stream: Stream) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings = {
        "device_id": str(device.index),
        "user_compute_stream": str(stream.address),
        "use_tf32": "0",  # it is on by default, and moves float32 results by 4e-3
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it doesn't find
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(
            str(model),
            options,
            providers=[(PROVIDER, settings), "CPUExecutionProvider"],
            enable_fallback=0,  # else it would quietly crawl on the CPU
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

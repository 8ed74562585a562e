"""Choosing the engine for this machine, with the reason, and opening it."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from centernetd.cuda import has_nvidia_device
from centernetd.errors import EngineError
from centernetd.inference.engines import ort_cuda
from centernetd.inference.engines.engine import Engine
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.engines.trt import installed_flavour, open_tensorrt
from centernetd.plan import PlanFile, load_binding


@dataclass(frozen=True)
class Backend:
    """What runs a model, by its name in the configuration, and the reason for choosing it."""

    name: str
    reason: str

    @property
    def on_gpu(self) -> bool:
        """Whether the backend runs on a GPU."""
        return self.name != "onnxruntime-cpu"


def choose_backend(configured: str) -> Backend:
    """Return the backend for ``engine.backend: configured``.

    The CPU is only used if it is configured explicitly or an NVIDIA device is missing: a
    machine with an unusable GPU must report that instead of running slowly.

    Raises
    ------
    EngineError
        When there is an NVIDIA device, but no installed backend can use it.
    """
    if configured != "auto":
        return Backend(configured, "the configuration asks for it")
    if not has_nvidia_device():
        return Backend("onnxruntime-cpu", "there is no NVIDIA device")
    if not has_cuda_python():
        raise EngineError(
            "engine.backend: auto found an NVIDIA GPU, but cuda-python is not installed: "
            "pip install 'centernetd[gpu]' (on a Jetson 'centernetd[cuda12]'), or set "
            "engine.backend: onnxruntime-cpu"
        )
    flavour = installed_flavour()
    if flavour is not None:
        return Backend("tensorrt", f"there is an NVIDIA device and {flavour} is installed")
    if ort_cuda.PROVIDER in ort.get_available_providers():
        reason = "there is an NVIDIA device, TensorRT is not installed and onnxruntime-gpu is"
        return Backend("onnxruntime-cuda", reason)
    raise EngineError(
        "engine.backend: auto found an NVIDIA GPU, but neither TensorRT nor onnxruntime-gpu is "
        "installed: pip install 'centernetd[gpu]', or set engine.backend: onnxruntime-cpu"
    )


def has_cuda_python() -> bool:
    """Return whether cuda-python is installed."""
    try:
        return importlib.util.find_spec("cuda.bindings.runtime") is not None
    except ModuleNotFoundError:  # not even its parent packages exist
        return False


def open_onnx(
    backend: Backend, model: Path, precision: str, device: int, max_batch: int, concurrency: int
) -> Engine:
    """Load the prepared ``model``, which is in ``precision``, into ONNX Runtime.

    Batches have up to ``max_batch`` rows. On the CPU, ``concurrency`` batches run concurrently;
    ``device`` is the GPU number.

    Raises
    ------
    ModelError
        When the model can't be loaded.
    EngineError
        When the backend can't run on this machine.
    """
    if backend.on_gpu:
        return ort_cuda.open_onnxruntime_cuda(model, device, precision, max_batch)
    return OrtCpuEngine(model, precision, max_batch, concurrency)


def open_plan(plan: PlanFile, device: int, max_batch: int) -> Engine:
    """Load ``plan`` into TensorRT on GPU ``device``.

    Raises
    ------
    ModelError
        When it is not the plan of a prepared model, or was built for smaller batches.
    EngineError
        When TensorRT or the GPU rejects it.
    """
    return open_tensorrt(plan, load_binding(), device, max_batch)

"""Which engine this box runs, and why."""

from dataclasses import dataclass
from pathlib import Path

from daemon.errors import EngineError
from daemon.inference.engines.engine import Engine
from daemon.inference.engines.ort import OrtCpuEngine

# Present where the kernel driver of a discrete card or of a Jetson is loaded.
_NVIDIA_NODES = (Path("/dev/nvidiactl"), Path("/dev/nvhost-gpu"), Path("/dev/nvgpu"))


@dataclass(frozen=True)
class Choice:
    """A backend and the reason it was taken."""

    backend: str
    reason: str


def choose_backend(wanted: str) -> Choice:
    """Return the backend for ``engine.backend: wanted``.

    The CPU is taken only where it is asked for by name or there is no NVIDIA device: a box
    with a GPU that can't be used must say so, not crawl.

    Raises
    ------
    EngineError
        When there is an NVIDIA device and no backend for it.
    """
    if wanted != "auto":
        return Choice(wanted, "the configuration asks for it")
    if has_nvidia_device():
        raise EngineError(
            "engine.backend: auto found an NVIDIA GPU, which this version can't use yet; "
            "set engine.backend: onnxruntime-cpu to run on the CPU"
        )
    return Choice("onnxruntime-cpu", "there is no NVIDIA device")


def has_nvidia_device() -> bool:
    """Return whether a NVIDIA GPU's driver has made its device node."""
    return any(node.exists() for node in _NVIDIA_NODES)


def open_engine(choice: Choice, model: Path, max_batch: int, concurrency: int) -> Engine:
    """Load the prepared ``model`` into the chosen backend.

    Batches have up to ``max_batch`` rows, and ``concurrency`` of them may run at once.

    Raises
    ------
    ModelError
        When the model can't be loaded.
    EngineError
        When the backend can't run here.
    """
    engines = {"onnxruntime-cpu": OrtCpuEngine}
    return engines[choice.backend](model, max_batch, concurrency)

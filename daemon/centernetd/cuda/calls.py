"""Calling CUDA: every status is checked, every failure is named."""

import functools
import importlib
import logging
from types import ModuleType
from typing import Any

from centernetd.errors import EngineError

log = logging.getLogger(__name__)

# After one of these errors every later call fails: the documentation of cudaError_t requires
# that the process is terminated and relaunched.
_STICKY = frozenset({214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})
_INSUFFICIENT_DRIVER = 35
_NO_DEVICE = 100
OUT_OF_MEMORY = 2


class CudaError(EngineError):
    """A call rejected by CUDA; ``code`` is its ``cudaError_t``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code

    @property
    def sticky(self) -> bool:
        """Whether this process can never use the GPU again."""
        return self.code in _STICKY


@functools.cache
def runtime() -> ModuleType:
    """Return cuda-python's module of the CUDA runtime.

    Raises
    ------
    EngineError
        When cuda-python is not installed.
    """
    return _imported("cuda.bindings.runtime")


@functools.cache
def driver() -> ModuleType:
    """Return cuda-python's module of the CUDA driver, which alone launches kernels.

    Raises as `runtime`.
    """
    return _imported("cuda.bindings.driver")


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(
            f"cuda-python can't be used ({error}): pip install 'centernetd[gpu]', on a Jetson "
            "'centernetd[cuda12]'"
        ) from None


def call(name: str, *arguments: object) -> Any:  # noqa: ANN401 - as many kinds as calls
    """Call the function ``name`` and return its results without the status.

    Names that begin with ``cuda`` are the runtime's, with ``cu`` alone the driver's. The result is
    None, one value, or a tuple of several.

    Raises
    ------
    CudaError
        When the status is not success.
    EngineError
        When cuda-python or the driver is missing.
    """
    library = runtime() if name.startswith("cuda") else driver()
    try:
        status, *results = getattr(library, name)(*arguments)
    except RuntimeError as error:  # some releases raise if libcuda is missing
        raise EngineError(
            f"the NVIDIA driver can't be loaded ({error}): install it, so that nvidia-smi "
            "lists the GPU"
        ) from None
    if status:
        raise _error(name, int(status))
    if not results:
        return None
    return results[0] if len(results) == 1 else tuple(results)


def release(name: str, handle: object) -> None:
    """Release ``handle`` with the function ``name``; a failure is only logged.

    After a sticky error nothing can be released. That is not logged, as the process ends.
    """
    try:
        call(name, handle)
    except CudaError as error:
        if not error.sticky:
            log.warning("%s", error)


def _error(name: str, code: int) -> CudaError:
    library = runtime()
    if code == _INSUFFICIENT_DRIVER:
        return CudaError(_driver_sentence(library), code)
    if code == _NO_DEVICE:
        return CudaError("the NVIDIA driver finds no GPU: see the output of nvidia-smi", code)
    status = library.cudaError_t(code)  # the driver's numbers are the same
    _, title = library.cudaGetErrorName(status)
    _, text = library.cudaGetErrorString(status)
    error = CudaError(f"{name} failed: {_text(title)} ({code}), {_text(text)}", code)
    if error.sticky:
        error.args = (f"{error}; the GPU is lost to this process, which must be restarted",)
    return error


def _driver_sentence(library: ModuleType) -> str:
    _, installed = library.cudaDriverGetVersion()
    _, needed = library.cudaRuntimeGetVersion()
    if not installed:
        return "there is no NVIDIA driver: install it, so that nvidia-smi lists the GPU"
    return (
        f"the NVIDIA driver is for CUDA {_version(installed)} and the installed cuda-python needs "
        f"{_version(needed)}: update the driver, or install an older cuda-python"
    )


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _text(name: bytes | str) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name

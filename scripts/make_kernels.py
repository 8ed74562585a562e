"""Compile daemon/centernetd/cuda/letterbox.cu to the PTX that is shipped; needs no GPU.

python -m scripts.make_kernels [PTX]

PTX is compiled by the driver when it is loaded, so that it runs on any GPU and needs no compiler
where it is installed. NVRTC 12.0 makes a version of it that every driver supported by cuda-python
can read (from 525 on; a Jetson's too), for GPUs of compute capability 7.5 or newer. It also sets
the locale of the process that calls it.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

ROOM = Path(__file__).parents[1] / "daemon" / "centernetd" / "cuda"
SOURCE, PTX = ROOM / "letterbox.cu", ROOM / "letterbox.ptx"
OPTIONS = (b"--gpu-architecture=compute_75", b"--fmad=true")


def compile_ptx(source: str) -> str:
    """Return the PTX of CUDA C++ ``source``; raises RuntimeError with the compiler's messages."""
    nvrtc = ctypes.CDLL(str(_library()))
    program = ctypes.c_void_p()
    name = SOURCE.name.encode()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name, 0, None, None))
    try:
        options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
        failed = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options)
        if failed:
            raise RuntimeError(
                _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            )
        return _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _library() -> Path:
    """Return the library of the package nvidia-cuda-nvrtc-cu12."""
    found = importlib.util.find_spec("nvidia.cuda_nvrtc")
    if found is None or found.submodule_search_locations is None:
        raise SystemExit("pip install nvidia-cuda-nvrtc-cu12==12.0.140")
    return Path(next(iter(found.submodule_search_locations))) / "lib" / "libnvrtc.so.12"


def _text(get_size: Callable[..., int], get: Callable[..., int], program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(get_size(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(get(program, text))
    return text.value.decode()


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC failed with status {status}")


if __name__ == "__main__":
    Path(sys.argv[1] if sys.argv[1:] else PTX).write_text(compile_ptx(SOURCE.read_text()))

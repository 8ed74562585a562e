"""Device memory, pinned host memory, and copies between them."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from centernetd.cuda.calls import OUT_OF_MEMORY, CudaError, call, release, runtime
from centernetd.cuda.owned import Owned
from centernetd.cuda.stream import CudaStream
from centernetd.errors import EngineError


class DeviceBuffer(Owned):
    """``nbytes`` of the current device's memory, uninitialised, at ``address``."""

    def __init__(self, nbytes: int) -> None:
        """Allocate the memory.

        Raises
        ------
        CudaError
            When memory is short; the message gives the bytes needed and free.
        """
        self.nbytes = nbytes
        try:
            self.address = int(call("cudaMalloc", nbytes))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            raise CudaError(shortage(nbytes), error.code) from None
        self._acquired()

    def _free(self) -> None:
        release("cudaFree", self.address)
        self._freed()


class PinnedBuffer(Owned):
    """``nbytes`` of page-locked host memory, uninitialised, at ``address``.

    The memory outlives `close` while a view of it is referenced: a dangling NumPy array would
    crash the process.
    """

    def __init__(self, nbytes: int) -> None:
        """Allocate the memory.

        Raises
        ------
        CudaError
            When the host can't lock that much memory.
        """
        self.nbytes = nbytes
        try:
            self.address = int(call("cudaHostAlloc", nbytes, runtime().cudaHostAllocDefault))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            raise CudaError(
                f"host memory is short: {_mb(nbytes)} could not be page-locked for the GPU",
                error.code,
            ) from None
        self._block = (ctypes.c_uint8 * nbytes).from_address(self.address)
        self._acquired()

    def view(self, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
        """Return a C-contiguous array at the beginning of the memory."""
        return np.ndarray(shape, dtype, memoryview(self._block))

    def _free(self) -> None:
        last_view = weakref.finalize(self._block, self._give_back, self.address)
        last_view.atexit = False
        del self._block

    def _give_back(self, address: int) -> None:
        release("cudaFreeHost", address)
        self._freed()


def copy_async(
    target: DeviceBuffer | PinnedBuffer,
    source: DeviceBuffer | PinnedBuffer,
    nbytes: int,
    cuda_stream: CudaStream,
) -> None:
    """Enqueue a copy of the first ``nbytes`` between the host and the device.

    Neither buffer may be touched until an event recorded after the copy has happened.
    """
    if nbytes > min(target.nbytes, source.nbytes):
        raise ValueError(f"{nbytes} bytes don't fit: {source.nbytes} to {target.nbytes}")
    kinds = runtime().cudaMemcpyKind
    inwards = isinstance(target, DeviceBuffer)
    kind = kinds.cudaMemcpyHostToDevice if inwards else kinds.cudaMemcpyDeviceToHost
    call("cudaMemcpyAsync", target.address, source.address, nbytes, kind, cuda_stream.handle)


def copy_rows_out(target: int, target_pitch: int, source: int, pitch: int, rows: int) -> None:
    """Copy ``rows`` rows from the device address ``source`` to the host address ``target``.

    Rows start ``pitch`` and ``target_pitch`` bytes apart; the smaller pitch is copied. Waits for
    completion and releases the GIL meanwhile.
    """
    kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
    width = min(target_pitch, pitch)
    call("cudaMemcpy2D", target, target_pitch, source, pitch, width, rows, kind)


def shortage(nbytes: int) -> str:
    """Return the error message for ``nbytes`` that the current device does not have free."""
    needed = f"GPU memory is short: {_mb(nbytes)} more are needed"
    try:
        free, total = call("cudaMemGetInfo")
    except EngineError:
        return needed
    return (
        f"{needed}, {_mb(free)} of {_mb(total)} are free: end other programs on the GPU, or lower "
        "batching.max_size"
    )


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB"

"""A strict double of cuda-python's runtime module, over a simulated GPU.

Misuse that the real runtime leaves undefined raises `AssertionError`.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from centernetd.cuda import calls, live
from tests import fake_kernels
from tests.simulated_gpu import (
    API,
    CAPTURE_SPOILT,
    COPY_RATE,
    DEVICE_BASE,
    INVALID_HANDLE,
    INVALID_PITCH,
    INVALID_VALUE,
    LEGACY,
    NOT_READY,
    OTHER_THREAD,
    OUT_OF_MEMORY,
    SUCCESS,
    Capture,
    CaptureMode,
    DeviceAttr,
    Event,
    MemcpyKind,
    Moment,
    SimulatedGpu,
    Status,
    Stream,
    Work,
    containing,
)


class FakeCuda(SimulatedGpu):
    """The module; what its functions do happens on the `SimulatedGpu`."""

    cudaMemcpyKind = MemcpyKind  # noqa: N815 - the real names
    cudaStreamCaptureMode = CaptureMode  # noqa: N815
    cudaDeviceAttr = DeviceAttr  # noqa: N815
    cudaError_t = Status  # noqa: N815
    cudaDeviceScheduleBlockingSync = API["constants"]["cudaDeviceScheduleBlockingSync"]  # noqa: N815
    cudaEventBlockingSync = API["constants"]["cudaEventBlockingSync"]  # noqa: N815
    cudaStreamNonBlocking = API["constants"]["cudaStreamNonBlocking"]  # noqa: N815
    cudaStreamLegacy = API["constants"]["cudaStreamLegacy"]  # noqa: N815
    cudaEventRecordExternal = API["constants"]["cudaEventRecordExternal"]  # noqa: N815
    cudaHostAllocDefault = API["constants"]["cudaHostAllocDefault"]  # noqa: N815

    # Devices

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        if self.driver < 13000:
            return Status(35), None
        if not self.devices:
            return Status(100), None
        return self._begin("cudaGetDeviceCount") or (SUCCESS, self.devices)

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaSetDevice"):
            return failure[:1]
        self._thread.device = device
        return (SUCCESS,)

    def cudaSetDeviceFlags(self, flags: int) -> tuple[Any, ...]:
        failure = self._begin("cudaSetDeviceFlags")
        if not failure:
            self.device_flags[self._current] = flags
        return failure[:1] if failure else (SUCCESS,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        name = f"Fake GPU {device}".encode().ljust(256, b"\0")
        return self._begin("cudaGetDeviceProperties") or (SUCCESS, SimpleNamespace(name=name))

    def cudaDeviceGetAttribute(self, attr: IntEnum, device: int) -> tuple[Any, ...]:
        value = {"cudaDevAttrComputeCapabilityMajor": 8, "cudaDevAttrComputeCapabilityMinor": 6}
        return self._begin("cudaDeviceGetAttribute") or (SUCCESS, value[DeviceAttr(attr).name])

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        if failure := self._begin("cudaMemGetInfo"):
            return (failure[0], None, None)
        return SUCCESS, self.memory - self._used(), self.memory

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return SUCCESS, self.driver

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return SUCCESS, 13000

    def cudaGetErrorName(self, error: IntEnum) -> tuple[Any, ...]:
        return SUCCESS, Status(error).name.encode()

    def cudaGetErrorString(self, error: IntEnum) -> tuple[Any, ...]:
        return SUCCESS, b"a description"

    # Memory

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaMalloc"):
            return failure
        if size > self.memory - self._used():
            return OUT_OF_MEMORY, None
        address = DEVICE_BASE + next(self._numbers) * (1 << 32)
        self._device[address] = np.full(size, 0xCD, np.uint8)
        return SUCCESS, address

    def cudaFree(self, dev_ptr: int) -> tuple[Any, ...]:
        return self._give_back("cudaFree", self._device, dev_ptr)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaHostAlloc"):
            return failure
        memory = np.full(size, 0xCD, np.uint8)
        self._pinned[memory.ctypes.data] = memory
        return SUCCESS, memory.ctypes.data

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        return self._give_back("cudaFreeHost", self._pinned, ptr)

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: IntEnum, stream: int
    ) -> tuple[Any, ...]:
        if failure := self._begin("cudaMemcpyAsync"):
            return failure[:1]
        inwards = kind == MemcpyKind["cudaMemcpyHostToDevice"]
        host, device = (src, dst) if inwards else (dst, src)
        for address, places in ((host, self._pinned), (device, self._device)):
            found = containing(places, address)
            if stream not in self._streams or found is None or found.size < count:
                return (INVALID_VALUE,)

        def run() -> None:
            ours, theirs = self._pinned_view(host, count), self.device_view(device, count)
            target, source = (theirs, ours) if inwards else (ours, theirs)
            target[:] = source

        what = "copy in" if inwards else "copy out"
        self._enqueue(self._streams[stream], Work(what, count / COPY_RATE, run, self.now))
        return (SUCCESS,)

    def cudaMemcpy2D(
        self,
        dst: int,
        dpitch: int,
        src: int,
        spitch: int,
        width: int,
        height: int,
        kind: IntEnum,
    ) -> tuple[Any, ...]:
        assert kind == MemcpyKind["cudaMemcpyDeviceToHost"], "the other ways are not used"
        if failure := self._begin("cudaMemcpy2D"):
            return failure[:1]
        if width > min(dpitch, spitch):
            return (INVALID_PITCH,)
        with self._lock:
            self._drain(self._stream(LEGACY))
        source = self.device_view(src, spitch * (height - 1) + width)
        for row in range(0 if self.lost else height):
            ctypes.memmove(dst + row * dpitch, source[row * spitch :].ctypes.data, width)
        return (self.lost or SUCCESS,)

    # Streams and events

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking, "a stream that waits for the default stream"
        if failure := self._begin("cudaStreamCreateWithFlags"):
            return failure
        number = next(self._numbers)
        self._streams[number] = Stream(number, self._current)
        return SUCCESS, number

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return self._give_back("cudaStreamDestroy", self._streams, stream)

    def cudaStreamQuery(self, stream: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaStreamQuery"):
            return failure[:1]
        return (NOT_READY if self._streams[stream].work else SUCCESS,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        return self._wait("cudaStreamSynchronize", lambda: self._drain(self._streams[stream]))

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaStreamWaitEvent"):
            return failure[:1]
        assert not self.is_capturing(stream), "an event from outside of the graph"
        moment = self._events[event].moment
        if moment is not None:
            work = Work("wait", 0.0, lambda: None, self.now, moment)
            self._streams[stream].work.append(work)
        return (SUCCESS,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaEventBlockingSync, "an event that would be waited for by spinning"
        if failure := self._begin("cudaEventCreateWithFlags"):
            return failure
        number = next(self._numbers)
        self._events[number] = Event(self._current)
        return SUCCESS, number

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        return self._give_back("cudaEventDestroy", self._events, event)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaEventRecord"):
            return failure[:1]
        queue = self._stream(int(stream))
        assert queue.capture is None, "an event that the graph would not record"
        if self._events[event].device != queue.device:
            return (INVALID_HANDLE,)
        moment = self._events[event].moment = Moment(queue)

        def run() -> None:
            moment.at = queue.clock

        queue.work.append(Work("record", 0.0, run, self.now))
        return (SUCCESS,)

    def cudaEventRecordWithFlags(self, event: int, stream: int, flags: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaEventRecordWithFlags"):
            return failure[:1]
        queue, recorded = self._streams[stream], self._events[event]
        assert flags == self.cudaEventRecordExternal
        if queue.capture is None or recorded.device != queue.device:
            return (INVALID_VALUE,)

        def run() -> None:  # until the GPU comes to it, the event is that of the launch before
            recorded.moment = Moment(queue, queue.clock)

        self._enqueue(queue, Work("record", 0.0, run, self.now))
        return (SUCCESS,)

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        return self._wait("cudaEventSynchronize", lambda: self._reach(self._events[event].moment))

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaEventElapsedTime"):
            return failure
        moments = [self._events[event].moment for event in (start, end)]
        if any(moment is None for moment in moments):
            return INVALID_HANDLE, None
        begin, finish = (moment.at for moment in moments if moment is not None)
        if begin is None or finish is None:
            return NOT_READY, None
        return SUCCESS, (finish - begin) * 1000

    # Graphs

    def cudaStreamBeginCapture(self, stream: int, mode: IntEnum) -> tuple[Any, ...]:
        assert CaptureMode(mode).name.endswith("ThreadLocal"), "decoders could not allocate"
        if failure := self._begin("cudaStreamBeginCapture"):
            return failure[:1]
        if self.is_capturing(stream):
            return (INVALID_VALUE,)
        self._streams[stream].capture = Capture(threading.get_ident())
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        capture, self._streams[stream].capture = self._streams[stream].capture, None
        if failure := self._begin("cudaStreamEndCapture"):
            return failure
        if capture is None:
            return INVALID_VALUE, None
        if capture.thread != threading.get_ident():
            return OTHER_THREAD, None
        if capture.spoilt:
            return CAPTURE_SPOILT, None
        return SUCCESS, self._keep_graph(capture.work)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        if failure := self._begin("cudaGraphInstantiate"):
            return failure
        return SUCCESS, self._keep_graph(self._graphs[graph])

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaGraphDestroy"):
            return failure[:1]
        del self._graphs[graph]  # what was made from it lives on
        return (SUCCESS,)

    def cudaGraphExecDestroy(self, graph_exec: int) -> tuple[Any, ...]:
        return self._give_back("cudaGraphExecDestroy", self._graphs, graph_exec)

    def cudaGraphLaunch(self, graph_exec: int, stream: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaGraphLaunch"):
            return failure[:1]
        if status := self.spoil(stream):
            return (status,)
        for work in self._graphs[graph_exec]:
            self.launch(stream, work.what, work.run, work.seconds)
        return (SUCCESS,)

    def _keep_graph(self, work: list[Work]) -> int:
        number = next(self._numbers)
        self._graphs[number] = work
        return number


class FakeDriver:
    """A strict double of cuda-python's driver module, as far as kernels need it.

    It knows one kernel, `letterbox`, which it runs in float64 when the simulated GPU comes to it.
    """

    def __init__(self, fake: FakeCuda) -> None:
        self._cuda = fake

    def cuModuleLoadData(self, image: bytes) -> tuple[Any, ...]:
        if failure := self._cuda._begin("cuModuleLoadData"):
            return failure
        assert image.endswith(b"\0"), "PTX is a string that ends with 0"
        assert b".visible .entry letterbox(" in image
        number = next(self._cuda._numbers)
        self._cuda._modules[number] = number
        return SUCCESS, number

    def cuModuleGetFunction(self, module: int, name: bytes) -> tuple[Any, ...]:
        assert (module in self._cuda._modules, name) == (True, b"letterbox")
        return self._cuda._begin("cuModuleGetFunction") or (SUCCESS, module)

    def cuModuleUnload(self, module: int) -> tuple[Any, ...]:
        return self._cuda._give_back("cuModuleUnload", self._cuda._modules, module)

    def cuLaunchKernel(
        self,
        f: int,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared: int,
        stream: int,
        params: tuple[tuple[int, ...], tuple[type, ...]],
        extra: int,
    ) -> tuple[Any, ...]:
        (jobs, rows, height, width), types = params
        assert types == (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        assert (f in self._cuda._modules, shared, extra) == (True, 0, 0)
        if failure := self._cuda._begin("cuLaunchKernel"):
            return failure[:1]
        assert (block_z, block_x * block_y % 32) == (1, 0)
        assert grid_x * block_x >= width
        assert grid_y * block_y >= height
        if not (grid_x > 0 and 0 < grid_y <= 65535 and 0 < grid_z <= 65535):
            return (INVALID_VALUE,)

        def run() -> None:
            fake_kernels.letterbox(self._cuda, jobs, rows, (height, width), grid_z)

        self._cuda.launch(stream, "letterbox", run, grid_z * 3e-6)
        return (SUCCESS,)


@contextmanager
def installed(fake: FakeCuda) -> Iterator[FakeCuda]:
    """Have ``fake`` found where cuda-python would be, and count live objects from 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cuda.bindings.runtime", fake)
        patch.setitem(sys.modules, "cuda.bindings.driver", FakeDriver(fake))
        _forget_modules()
        live.clear()
        yield fake
    _forget_modules()


def _forget_modules() -> None:
    calls.runtime.cache_clear()
    calls.driver.cache_clear()


def pageable(nbytes: int) -> int:
    """Return the address of ordinary memory, which lives on."""
    block = ctypes.create_string_buffer(nbytes)
    _KEPT.append(block)
    return ctypes.addressof(block)


_KEPT: list[object] = []

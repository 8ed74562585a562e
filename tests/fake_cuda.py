"""A strict double of cuda-python's runtime module, over a simulated GPU.

Nothing that is enqueued happens before somebody waits for it: then everything it depends on
runs, in the streams' order, with times of a virtual clock. So a buffer that is touched too
early holds the wrong bytes, and overlap can be asserted to the microsecond without sleeping.
Misuse that the real runtime leaves undefined raises `AssertionError`.
"""

import ctypes
import itertools
import json
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.inference.cuda import calls, live

API = json.loads((Path(__file__).parent / "data" / "cuda_runtime_api.json").read_text())
PATIENCE = 20.0  # seconds a test waits for what must come
ALLOCATIONS = (
    "cudaMalloc",
    "cudaHostAlloc",
    "cudaStreamCreateWithFlags",
    "cudaEventCreateWithFlags",
)
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
STICKY = (214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719)

_COPY_RATE = 25e9  # bytes a second over the bus
_CALL = 1e-9  # seconds of host time a call costs
_DEVICE_BASE = 0x7_0000_0000_0000  # no address of the host's: touching it there would crash


def _constants(prefix: str) -> dict[str, int]:
    named = API["constants"].items()
    return {name.removeprefix(prefix): value for name, value in named if name.startswith(prefix)}


Status = IntEnum("Status", _constants("cudaError_t."))  # type: ignore[misc]
MemcpyKind = IntEnum("MemcpyKind", _constants("cudaMemcpyKind."))  # type: ignore[misc]
DeviceAttr = IntEnum("DeviceAttr", _constants("cudaDeviceAttr."))  # type: ignore[misc]

SUCCESS = Status(0)
INVALID_VALUE, OUT_OF_MEMORY = Status(1), Status(2)
INVALID_HANDLE, NOT_READY, ILLEGAL_ADDRESS = Status(400), Status(600), Status(700)


@dataclass(frozen=True)
class Interval:
    """When one piece of work ran, in seconds of the virtual clock."""

    what: str
    stream: int
    begin: float
    end: float

    def overlaps(self, other: "Interval") -> bool:
        return self.begin < other.end and other.begin < self.end


@dataclass
class _Work:
    """What a stream is to do: ``run`` takes ``seconds``, not before ``after`` has happened."""

    what: str
    seconds: float
    run: Callable[[], None]
    enqueued_at: float
    after: "_Moment | None" = None


@dataclass
class _Moment:
    """One recording of an event."""

    stream: "_Stream"
    at: float | None = None


@dataclass
class _Stream:
    number: int
    device: int
    clock: float = 0.0
    work: deque[_Work] = field(default_factory=deque)


@dataclass
class _Event:
    device: int
    moment: _Moment | None = None


class FakeCuda:
    """The module; ``calls`` are the names of all calls, ``ran`` what the GPU has done.

    While ``gate`` is cleared, whoever waits for the GPU waits.
    """

    cudaMemcpyKind = MemcpyKind  # noqa: N815 - the real names
    cudaDeviceAttr = DeviceAttr  # noqa: N815
    cudaDeviceScheduleBlockingSync = API["constants"]["cudaDeviceScheduleBlockingSync"]  # noqa: N815
    cudaEventBlockingSync = API["constants"]["cudaEventBlockingSync"]  # noqa: N815
    cudaStreamNonBlocking = API["constants"]["cudaStreamNonBlocking"]  # noqa: N815
    cudaHostAllocDefault = API["constants"]["cudaHostAllocDefault"]  # noqa: N815

    def __init__(self, *, devices: int = 1, memory: int = 1 << 30, driver: int = 13000) -> None:
        self.calls: list[str] = []
        self.ran: list[Interval] = []
        self.gate = threading.Event()
        self.gate.set()
        self.now = 0.0
        self.memory = memory
        self.devices = devices
        self.driver = driver
        self.lost: Status | None = None
        self.device_flags: dict[int, int] = {}
        self._failures: list[tuple[frozenset[str], itertools.count[int], int, Status]] = []
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._numbers = itertools.count(1)
        self._device: dict[int, NDArray[np.uint8]] = {}
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._freed: list[NDArray[np.uint8]] = []  # kept, so that no address comes twice
        self._streams: dict[int, _Stream] = {}
        self._events: dict[int, _Event] = {}

    # What tests ask for

    def fail(self, names: str | tuple[str, ...], nth: int, code: int) -> None:
        """Have the ``nth`` call of ``names`` (from 1, counted together) answer ``code``."""
        chosen = frozenset((names,) if isinstance(names, str) else names)
        self._failures.append((chosen, itertools.count(1), nth, Status(code)))

    def count(self) -> Counter[str]:
        """How often each function was called so far."""
        return Counter(self.calls)

    def live(self) -> dict[str, int]:
        """What was made and not given back."""
        return {
            "device": len(self._device),
            "pinned": len(self._pinned),
            "streams": len(self._streams),
            "events": len(self._events),
        }

    def device_bytes_from(self, address: int) -> int:
        """Bytes from ``address`` to the end of its device memory; 0 if it isn't any."""
        found = _containing(self._device, address)
        return 0 if found is None else found.size

    def device_view(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Device memory, for work that runs there; sets the sticky error where there is none."""
        found = _containing(self._device, address)
        if found is None or found.size < nbytes:
            self.lost = ILLEGAL_ADDRESS
            return np.zeros(nbytes, np.uint8)
        return found[:nbytes]

    def launch(self, stream: int, what: str, run: Callable[[], None], seconds: float) -> None:
        """Enqueue ``run`` as a kernel of ``seconds``."""
        with self._lock:
            queue = self._streams[stream]
            assert queue.device == self._current, "launched on a stream of another device"
            queue.work.append(_Work(what, seconds, run, self.now))

    @property
    def _current(self) -> int:
        return getattr(self._thread, "device", 0)

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
        return SUCCESS, b"what the maker says of it"

    # Memory

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaMalloc"):
            return failure
        if size > self.memory - self._used():
            return OUT_OF_MEMORY, None
        address = _DEVICE_BASE + next(self._numbers) * (1 << 32)
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
            found = _containing(places, address)
            if stream not in self._streams or found is None or found.size < count:
                return (INVALID_VALUE,)

        def run() -> None:
            ours, theirs = self._pinned_view(host, count), self.device_view(device, count)
            target, source = (theirs, ours) if inwards else (ours, theirs)
            target[:] = source

        what = "copy in" if inwards else "copy out"
        work = _Work(what, count / _COPY_RATE, run, self.now)
        self._streams[stream].work.append(work)
        return (SUCCESS,)

    # Streams and events

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking, "a stream that waits for the default stream"
        if failure := self._begin("cudaStreamCreateWithFlags"):
            return failure
        number = next(self._numbers)
        self._streams[number] = _Stream(number, self._current)
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
        moment = self._events[event].moment
        if moment is not None:
            work = _Work("wait", 0.0, lambda: None, self.now, moment)
            self._streams[stream].work.append(work)
        return (SUCCESS,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaEventBlockingSync, "an event that would be waited for by spinning"
        if failure := self._begin("cudaEventCreateWithFlags"):
            return failure
        number = next(self._numbers)
        self._events[number] = _Event(self._current)
        return SUCCESS, number

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        return self._give_back("cudaEventDestroy", self._events, event)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        if failure := self._begin("cudaEventRecord"):
            return failure[:1]
        queue = self._streams[stream]
        if self._events[event].device != queue.device:
            return (INVALID_HANDLE,)
        moment = self._events[event].moment = _Moment(queue)

        def run() -> None:
            moment.at = queue.clock

        queue.work.append(_Work("record", 0.0, run, self.now))
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

    # How it works

    def _begin(self, name: str) -> tuple[Any, ...]:
        """Note a call; returns how it fails, or an empty tuple."""
        with self._lock:
            self.calls.append(name)
            self.now += _CALL
            for names, numbers, nth, code in self._failures:
                if name in names and next(numbers) == nth:
                    if code in STICKY:
                        self.lost = code
                    return code, None
            return (self.lost, None) if self.lost else ()

    def _give_back(self, name: str, owned: dict[int, Any], handle: int) -> tuple[Any, ...]:
        if failure := self._begin(name):
            return failure[:1]
        with self._lock:
            busy = [work.what for stream in self._streams.values() for work in stream.work]
            assert not busy, f"{name} while the GPU has still to do: {busy}"
            thing = owned.pop(handle, None)
            assert thing is not None, f"{name} of what is not, or no longer, there"
            if isinstance(thing, np.ndarray):
                thing[:] = 0xDD
                self._freed.append(thing)
        return (SUCCESS,)

    def _wait(self, name: str, reach: Callable[[], None]) -> tuple[Any, ...]:
        if failure := self._begin(name):
            return failure[:1]
        assert self.gate.wait(PATIENCE), "the GPU never went on"
        with self._lock:
            if not self.lost:
                reach()
            return (self.lost or SUCCESS,)

    def _reach(self, moment: _Moment | None) -> None:
        if moment is not None:
            while moment.at is None and not self.lost:
                self._step(moment.stream)
            self.now = max(self.now, moment.at or 0.0)

    def _drain(self, stream: _Stream) -> None:
        while stream.work and not self.lost:
            self._step(stream)
        self.now = max(self.now, stream.clock)

    def _step(self, stream: _Stream) -> None:
        work = stream.work[0]
        if work.after is not None:
            while work.after.at is None and not self.lost:
                self._step(work.after.stream)
            stream.clock = max(stream.clock, work.after.at or 0.0)
        begin = max(stream.clock, work.enqueued_at)
        stream.clock = begin + work.seconds
        stream.work.popleft()
        work.run()
        if work.seconds:
            self.ran.append(Interval(work.what, stream.number, begin, stream.clock))

    def _used(self) -> int:
        return sum(memory.size for memory in self._device.values())

    def _pinned_view(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        found = _containing(self._pinned, address)
        assert found is not None, "pinned memory was freed under a copy"
        return found[:nbytes]


def _containing(owned: dict[int, NDArray[np.uint8]], address: int) -> NDArray[np.uint8] | None:
    for start, memory in owned.items():
        if start <= address < start + memory.size:
            return memory[address - start :]
    return None


@contextmanager
def installed(fake: FakeCuda) -> Iterator[FakeCuda]:
    """Have ``fake`` found where cuda-python would be, and count live objects from 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cuda.bindings.runtime", fake)
        calls.runtime.cache_clear()
        live.clear()
        yield fake
    calls.runtime.cache_clear()


def pageable(nbytes: int) -> int:
    """Return the address of ordinary memory, which lives on."""
    block = ctypes.create_string_buffer(nbytes)
    _KEPT.append(block)
    return ctypes.addressof(block)


_KEPT: list[object] = []

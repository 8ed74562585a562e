"""A simulated GPU: streams of work, events and memory, on a virtual clock.

Nothing that is enqueued happens before somebody waits for it: then everything it depends on
runs, in the streams' order, with times of a virtual clock. So a buffer that is touched too
early holds the wrong bytes, and overlap can be asserted to the microsecond without sleeping.
"""

import itertools
import json
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

API = json.loads((Path(__file__).parent / "data" / "cuda_runtime_api.json").read_text())
GPU_TIMEOUT = 20.0  # seconds a test waits for what must come
ALLOCATIONS = (
    "cudaMalloc",
    "cudaHostAlloc",
    "cudaStreamCreateWithFlags",
    "cudaEventCreateWithFlags",
)
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
UNCAPTURABLE = (
    *ALLOCATIONS[:2],
    "cudaFree",
    "cudaFreeHost",
    "cudaMemcpy2D",
    *WAITS,
    "cudaStreamQuery",
)
"""What a thread can't do while it captures, in the mode that leaves other threads alone."""
STICKY = (214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719)

COPY_RATE = 25e9  # bytes per second over the bus
_CALL = 1e-9  # seconds of host time a call costs
LEGACY = API["constants"]["cudaStreamLegacy"]
DEVICE_BASE = 0x7_0000_0000_0000  # no address of the host's: touching it there would crash


def _constants(prefix: str) -> dict[str, int]:
    named = API["constants"].items()
    return {name.removeprefix(prefix): value for name, value in named if name.startswith(prefix)}


Status = IntEnum("Status", _constants("cudaError_t."))  # type: ignore[misc]
MemcpyKind = IntEnum("MemcpyKind", _constants("cudaMemcpyKind."))  # type: ignore[misc]
CaptureMode = IntEnum("CaptureMode", _constants("cudaStreamCaptureMode."))  # type: ignore[misc]
DeviceAttr = IntEnum("DeviceAttr", _constants("cudaDeviceAttr."))  # type: ignore[misc]

SUCCESS = Status(0)
INVALID_VALUE, OUT_OF_MEMORY, INVALID_PITCH = Status(1), Status(2), Status(12)
INVALID_HANDLE, NOT_READY, ILLEGAL_ADDRESS = Status(400), Status(600), Status(700)
NOT_IN_CAPTURE, CAPTURE_SPOILT, OTHER_THREAD = Status(900), Status(901), Status(908)


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
class Work:
    """What a stream is to do: ``run`` takes ``seconds``, not before ``after`` has happened."""

    what: str
    seconds: float
    run: Callable[[], None]
    enqueued_at: float
    after: "Moment | None" = None


@dataclass
class Moment:
    """One recording of an event."""

    stream: "Stream"
    at: float | None = None


@dataclass
class Capture:
    """What a stream was to do since its capture began, by ``thread``; not if ``spoilt``."""

    thread: int
    work: list[Work] = field(default_factory=list)
    spoilt: bool = False


@dataclass
class Stream:
    number: int
    device: int
    clock: float = 0.0
    work: deque[Work] = field(default_factory=deque)
    capture: Capture | None = None


@dataclass
class Event:
    device: int
    moment: Moment | None = None


class SimulatedGpu:
    """What `fake_cuda.FakeCuda` calls; ``calls`` are the names of all calls, ``ran`` what was done.

    While ``gate`` is cleared, whoever waits for the GPU waits.
    """

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
        self._numbers = itertools.count(16)  # lower ones are special handles
        self._device: dict[int, NDArray[np.uint8]] = {}
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._freed: list[NDArray[np.uint8]] = []  # kept, so that no address comes twice
        self._streams: dict[int, Stream] = {}
        self._legacy: dict[int, Stream] = {}  # by device
        self._events: dict[int, Event] = {}
        self._modules: dict[int, int] = {}
        self._graphs: dict[int, list[Work]] = {}

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
            "modules": len(self._modules),
            "graphs": len(self._graphs),
        }

    def device_bytes_from(self, address: int) -> int:
        """Bytes from ``address`` to the end of its device memory; 0 if it isn't any."""
        found = containing(self._device, address)
        return 0 if found is None else found.size

    def device_view(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Device memory, for work that runs there; sets the sticky error if there is none."""
        found = containing(self._device, address)
        if found is None or found.size < nbytes:
            self.lost = ILLEGAL_ADDRESS
            return np.zeros(nbytes, np.uint8)
        return found[:nbytes]

    def decode(self, run: Callable[[], None], seconds: float) -> None:
        """Enqueue ``run`` in the legacy stream, where FFmpeg copies decoded pictures."""
        with self._lock:
            self._stream(LEGACY).work.append(Work("decode", seconds, run, self.now))

    def reclaim(self, address: int) -> None:
        """Take a decoded picture's memory back, as FFmpeg does: whatever is still to read it."""
        with self._lock:
            memory = self._device.pop(address)
            memory[:] = 0xDD
            self._freed.append(memory)

    def _stream(self, handle: int) -> Stream:
        if handle == LEGACY:
            return self._legacy.setdefault(self._current, Stream(LEGACY, self._current))
        return self._streams[handle]

    def launch(self, stream: int, what: str, run: Callable[[], None], seconds: float) -> None:
        """Enqueue ``run`` as a kernel of ``seconds``."""
        with self._lock:
            queue = self._streams[stream]
            assert queue.device == self._current, "launched on a stream of another device"
            self._enqueue(queue, Work(what, seconds, run, self.now))

    def _enqueue(self, queue: Stream, work: Work) -> None:
        (queue.work if queue.capture is None else queue.capture.work).append(work)

    def is_capturing(self, stream: int) -> bool:
        """Whether what is enqueued in ``stream`` is recorded instead."""
        return self._streams[stream].capture is not None

    def spoil(self, stream: int) -> Status:
        """Do in ``stream`` what can't be captured; returns the status of that call."""
        capture = self._streams[stream].capture
        if capture is None:
            return SUCCESS
        capture.spoilt = True
        return NOT_IN_CAPTURE

    @property
    def _current(self) -> int:
        return getattr(self._thread, "device", 0)

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
            if not self.lost and name in UNCAPTURABLE:
                for stream in list(self._streams.values()):
                    if stream.capture and stream.capture.thread == threading.get_ident():
                        stream.capture.spoilt = True
                        return NOT_IN_CAPTURE, None
            return (self.lost, None) if self.lost else ()

    def _give_back(self, name: str, owned: dict[int, Any], handle: int) -> tuple[Any, ...]:
        if failure := self._begin(name):
            return failure[:1]
        with self._lock:
            busy = [work.what for stream in list(self._streams.values()) for work in stream.work]
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
        assert self.gate.wait(GPU_TIMEOUT), "the GPU never went on"
        with self._lock:
            if not self.lost:
                reach()
            return (self.lost or SUCCESS,)

    def _reach(self, moment: Moment | None) -> None:
        if moment is not None:
            while moment.at is None and not self.lost:
                self._step(moment.stream)
            self.now = max(self.now, moment.at or 0.0)

    def _drain(self, stream: Stream) -> None:
        while stream.work and not self.lost:
            self._step(stream)
        self.now = max(self.now, stream.clock)

    def _step(self, stream: Stream) -> None:
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
        return sum(memory.size for memory in list(self._device.values()))

    def _pinned_view(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        found = containing(self._pinned, address)
        assert found is not None, "pinned memory was freed under a copy"
        return found[:nbytes]


def containing(owned: dict[int, NDArray[np.uint8]], address: int) -> NDArray[np.uint8] | None:
    for start, memory in list(owned.items()):  # other threads decode meanwhile
        if start <= address < start + memory.size:
            return memory[address - start :]
    return None

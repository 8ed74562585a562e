"""Strict fakes of what the stages meet: they refuse what the real things refuse."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from centernetd.capture.source import Picture, SourceInfo
from centernetd.errors import EngineError, SourceError
from centernetd.flow import DetectionClass, Detections, Frame, HostImage, Image, Meters
from centernetd.inference.collect import Clock
from centernetd.inference.engines import Engine, EngineInfo, Slot, Tensors
from centernetd.inference.filter import StreamFilter, StreamFilters
from centernetd.inference.letterbox import Geometry, fill_row

TIME_BASE = Fraction(1, 1000)
WAIT_TIMEOUT = 60.0  # seconds after which a test that waits has failed
MODEL = "model"
"""The name of a model where there is only one."""


def image(height: int = 4, width: int = 6, value: int = 0) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def frame(frame_id: int = 0, captured_at: float = 0.0, value: int = 0) -> Frame:
    return Frame(
        frame_id, HostImage(image(value=value)), frame_id * 40, TIME_BASE, captured_at, 0.0
    )


def picture(pts: int | None, height: int = 4, width: int = 6) -> Picture:
    return Picture(HostImage(image(height, width)), pts, TIME_BASE, 0.0)


def detections(count: int = 0) -> Detections:
    zeros = np.zeros(count, np.float32)
    return Detections(np.zeros((count, 4), np.float32), zeros, np.zeros(count, np.int64))


def only(stream_filter: StreamFilter) -> StreamFilters:
    """The filters of a stream that runs one model."""
    labels = enumerate(stream_filter.counted_as)
    classes = tuple(DetectionClass(MODEL, number, label) for number, label in labels)
    return StreamFilters({MODEL: stream_filter}, classes)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for what no event signals: that another thread blocks somewhere."""
    step = threading.Event()
    for _ in range(int(WAIT_TIMEOUT / 0.005)):
        if condition():
            return
        step.wait(0.005)
    raise AssertionError("it never came about")


class MisuseError(BaseException):
    """A fake was used as the real thing may not be; nobody who catches errors catches this."""


def refuse_if(misused: bool, what: str = "misuse") -> None:
    if misused:
        raise MisuseError(what)


class ManualClock:
    """Seconds that pass only on request."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeClock(Clock):
    """A clock that moves when somebody waits for it; ``script`` acts during those waits.

    Each wait runs the next action at its time: (seconds from now, what happens then). A wait
    whose timeout comes first ends with nothing having happened.
    """

    def __init__(self, *script: tuple[float, Callable[[], None]]) -> None:
        self.time = 100.0
        self.waits: list[float | None] = []
        self._script = [(self.time + after, action) for after, action in script]

    def now(self) -> float:
        return self.time

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        assert condition._is_owned(), "waited without holding the condition"  # type: ignore[attr-defined]
        self.waits.append(timeout)
        if timeout is not None:
            assert timeout > 0, "a wait that can't end later than it began"
        if self._script and (timeout is None or self._script[0][0] <= self.time + timeout):
            at, action = self._script.pop(0)
            self.time = max(self.time, at)
            action()
            return
        if timeout is None:
            raise AssertionError("waits for ever")
        self.time += timeout


class RecordingMeters(Meters):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.latencies: list[str] = []
        self.batches: list[int] = []

    def stage_duration(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)

    def frame_latency(self, stream: str, seconds: float) -> None:
        self.latencies.append(stream)

    def batch_size(self, size: int) -> None:
        self.batches.append(size)


class FakeSource:
    """Yields a script of pictures; an error or a call in it is raised or made in its place."""

    def __init__(
        self,
        script: Sequence[Picture | SourceError | Callable[[], None]],
        *,
        time_base: Fraction = TIME_BASE,
        damaged: int = 0,
        held_back: int = 0,
        in_bursts: bool = False,
        has_sound: bool = False,
    ) -> None:
        self.info = SourceInfo(
            "fake", "fakedec", time_base, len(script), in_bursts, has_sound=has_sound
        )
        self.damaged = damaged
        self.held_back = held_back
        self.closed = 0
        self._script = script
        self._read = False

    def __iter__(self) -> Iterator[Picture]:
        assert not self._read, "a source is read once"
        self._read = True
        for step in self._script:
            assert not self.closed, "read after close"
            if isinstance(step, Picture):
                yield step
            elif isinstance(step, SourceError):
                raise step
            else:
                step()

    def close(self) -> None:
        self.closed += 1


class FakeSlot(Slot):
    """A slot that leaves everything to its engine, where tests can interfere."""

    def __init__(self, engine: "FakeEngine", rows: NDArray[np.uint8]) -> None:
        self.rows = rows
        self.put_rows: set[int] = set()
        self._engine = engine

    def put(self, row: int, image: Image, geometry: Geometry) -> None:
        self.put_rows.add(row)
        fill_row(image.pixels(), self.rows[row], geometry)

    def clear(self) -> None:
        self.put_rows.clear()

    def move(self, row: int, to: int) -> None:
        self.rows[to] = self.rows[row]

    def enqueue(self, size: int) -> None:
        self._engine.enqueue(self, size)

    def wait(self) -> Tensors:
        return self._engine.wait(self)

    def durations(self) -> Mapping[str, float]:
        return self._engine.durations(self)


class FakeEngine(Engine):
    """An engine with a queue of its own, as a GPU has; what it finds is read off the pixels.

    A row gives one detection: a box over (1, 1) to (3, 3), score 0.9, and the row's first pixel
    as its class. It refuses what a GPU engine would: a slot enqueued twice, one waited for that
    isn't enqueued or not the oldest, sizes out of range, use after close.
    While ``gate`` is cleared, nothing comes out of it. With ``fail_at`` the batch of that number
    (from 0) fails in ``wait``, or in ``enqueue`` if ``fail_early``, and so does all after it.
    """

    def __init__(
        self,
        size: tuple[int, int] = (4, 6),
        max_batch: int = 4,
        *,
        fail_at: int | None = None,
        fail_early: bool = False,
    ) -> None:
        self.info = EngineInfo("fake", "float32", "none")
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        self.waited = 0
        self.closed = False
        self._shape = (max_batch, *size, 3)
        self._queue: list[tuple[FakeSlot, int, NDArray[np.uint8]]] = []
        self._lock = threading.Lock()
        self._fail_at = fail_at
        self._fail_early = fail_early

    def make_slots(self, count: int) -> Sequence[Slot]:
        self._refuse_if(self.closed, "closed")
        return [FakeSlot(self, np.zeros(self._shape, np.uint8)) for _ in range(count)]

    def bucket(self, size: int) -> int:
        self._refuse_if(not 1 <= size <= self._shape[0], f"a batch of {size}")
        return min(1 << (size - 1).bit_length(), self._shape[0])

    def enqueue(self, slot: FakeSlot, size: int) -> None:
        with self._lock:
            self._refuse_if(self.closed, "closed")
            self._refuse_if(any(slot is busy for busy, *_ in self._queue), "enqueued twice")
            self._refuse_if(not 1 <= size <= self._shape[0], f"a batch of {size}")
            if self._fail_early:
                self._fail_if_due(len(self.sizes))
            self.sizes.append(size)
            self._queue.append((slot, size, slot.rows[:size].copy()))

    def wait(self, slot: FakeSlot) -> Tensors:
        if not self.gate.wait(WAIT_TIMEOUT):
            raise AssertionError("the gate never opened")
        with self._lock:
            self._refuse_if(self.closed, "closed")
            self._refuse_if(not self._queue or self._queue[0][0] is not slot, "not the oldest")
            _, size, rows = self._queue.pop(0)
            same = np.array_equal(slot.rows[:size], rows)
            self._refuse_if(not same, "rows written while they were computed")
            self._fail_if_due(self.waited)
            self.waited += 1
        found = np.zeros((size, 1, 6), np.float32)
        found[:, 0, :5] = 1, 1, 3, 3, 0.9
        found[:, 0, 5] = rows[:, 0, 0, 0]
        return {"detections": found}

    def durations(self, slot: FakeSlot) -> Mapping[str, float]:
        self._refuse_if(any(slot is busy for busy, *_ in self._queue), "still enqueued")
        return {"execute": 0.001}

    def close(self) -> None:
        self.closed = True

    def _fail_if_due(self, number: int) -> None:
        if self._fail_at is not None and number >= self._fail_at:
            raise EngineError("the fake engine failed, as requested")

    @staticmethod
    def _refuse_if(misused: bool, what: str) -> None:
        if misused:
            raise AssertionError(f"misuse of the engine: {what}")

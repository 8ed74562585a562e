"""The inference stage: takes frames from lanes, runs the engine, delivers detections."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from weakref import WeakKeyDictionary

from centernetd.errors import StartupError
from centernetd.flow import (
    INFERENCE,
    Arrivals,
    Channel,
    Detections,
    Lane,
    Meters,
    Reason,
    Result,
)
from centernetd.inference.collect import (
    Batching,
    Clock,
    Forecast,
    SystemClock,
    Taken,
    collect,
)
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Slot
from centernetd.inference.filter import StreamFilter
from centernetd.inference.postprocess import View


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch on its way through the engine."""

    slot: Slot
    frames: Sequence[Taken]
    views: Sequence[View]
    collected_at: float


class InferenceStage:
    """Two threads around one engine and a ring of slots.

    `feed` collects a batch, letterboxes it into a free slot and enqueues it; `harvest` waits
    for the oldest slot, delivers its detections and frees it. So the next batch is prepared
    while the current one is computed, with any engine. Both end when every lane is closed and
    drained, or raise.
    """

    def __init__(
        self,
        detector: Detector,
        filters: Mapping[Lane, StreamFilter],
        arrivals: Arrivals,
        batching: Batching,
        meters: Meters,
        beat: Callable[[float], None],
        slots: int,
    ) -> None:
        """Serve the lanes of ``filters``, which announce their frames in ``arrivals``.

        ``beat`` is called per batch: with 0 when it is started, and with its duration in seconds
        when it is finished.
        """
        self._detector = detector
        self._lanes = list(filters)
        self._arrivals = arrivals
        self._filters = WeakKeyDictionary(filters)
        self._batching = batching
        self._meters = meters
        self._beat = beat
        self._clock: Clock = SystemClock()
        self._forecast = Forecast()
        self._slots = detector.engine.make_slots(slots)
        self._free: Channel[Slot] = Channel(slots)
        self._running: Channel[_Batch] = Channel(slots)
        for slot in self._slots:
            self._free.put(slot)
        self._serving = threading.Lock()
        self._fed = self._harvested = 0  # batches; each is counted by one thread
        self._ended = False

    @property
    def slots_busy(self) -> int:
        """Slots that hold a batch: being filled, computed or harvested."""
        return self._fed - self._harvested

    def serve(self, filters: Mapping[Lane, StreamFilter]) -> None:
        """Serve these lanes too; callable from any thread.

        Raises
        ------
        StartupError
            When every lane has been closed and drained, which ends inference.
        """
        with self._serving:
            if self._ended and filters:
                raise StartupError("every stream has ended, and so does the daemon: start it again")
            self._filters.update(filters)
            self._lanes.extend(filters)

    def forget(self, lane: Lane) -> None:
        """Stop serving ``lane``, which is closed; callable from any thread."""
        with self._serving:
            self._lanes.remove(lane)

    def warm_up(self) -> None:
        """Run an empty batch of each size in each slot, so that all memory is allocated.

        Call it before `feed`, in the same thread. It ends early when every lane is closed.

        Raises
        ------
        EngineError
            When the engine fails; `harvest` then ends.
        """
        engine = self._detector.engine
        sizes = {engine.bucket(n + 1) for n in range(self._batching.max_size)}
        try:
            for size, slot in product(sorted(sizes, reverse=True), self._slots):
                if self._all_closed:
                    return
                began = self._clock.now()
                slot.enqueue(size)
                slot.wait()
                self._beat(self._clock.now() - began)
        except BaseException:
            self._running.close()
            raise

    def feed(self) -> None:
        """Keep the engine fed until every lane is closed and drained."""
        try:
            for slot in self._free:
                while not self._feed(slot):
                    if self._end():
                        return
        finally:
            self._running.close()

    def harvest(self) -> None:
        """Deliver the detections of each batch enqueued by `feed`, in order."""
        try:
            for batch in self._running:
                self._deliver(batch)
                self._free.put(batch.slot)
                self._harvested += 1
                del batch  # its pictures are not held while waiting for the next
        finally:
            self._free.close()

    @property
    def _all_closed(self) -> bool:
        return all(lane.closed for lane in tuple(self._lanes))

    def _end(self) -> bool:
        """End unless a lane has been added meanwhile; return whether it ended."""
        with self._serving:
            self._ended = self._all_closed and not any(lane.waiting for lane in self._lanes)
        return self._ended

    def _feed(self, slot: Slot) -> bool:
        """Enqueue a batch in ``slot``; return False when every lane is closed and drained."""
        while frames := collect(
            self._lanes, self._arrivals, self._batching, self._forecast, self._clock
        ):
            self._fed += 1
            enqueued = self._enqueue(slot, frames)
            self._beat(0.0)
            if enqueued:
                return True
            self._fed -= 1
            del frames  # their pictures are not held while waiting for the next
        return False

    def _enqueue(self, slot: Slot, frames: Sequence[Taken]) -> bool:
        """Letterbox and enqueue ``frames``; return False if all of them became too old."""
        collected_at = self._clock.now()
        images = [taken.frame.image for taken in frames]
        views = self._detector.fill(slot, images, [self._filters[taken.lane] for taken in frames])
        self._meters.stage_duration("preprocess", self._clock.now() - collected_at)
        kept = self._drop_late(slot, frames)
        if not kept:
            slot.clear()
            return False
        slot.enqueue(len(kept))
        batch = _Batch(slot, [frames[n] for n in kept], [views[n] for n in kept], collected_at)
        self._running.put(batch)
        return True

    def _drop_late(self, slot: Slot, frames: Sequence[Taken]) -> Sequence[int]:
        """Drop frames that aged out while the batch was filled; return the indices kept.

        Kept rows are moved up.
        """
        kept: list[int] = []
        now = self._clock.now()
        for number, taken in enumerate(frames):
            if taken.deadline < now:
                taken.lane.drop(INFERENCE, Reason.TOO_OLD)
                continue
            if number > len(kept):
                slot.move(number, len(kept))
            kept.append(number)
        return kept

    def _deliver(self, batch: _Batch) -> None:
        found = self._detector.read(batch.slot, batch.views)
        self._report(batch, found)
        for lane, results in _results(batch.frames, found).items():
            lane.deliver(*results)

    def _report(self, batch: _Batch, found: Sequence[Detections]) -> None:
        now, meters = self._clock.now(), self._meters
        for step, seconds in batch.slot.durations().items():
            meters.stage_duration(step, seconds)
        meters.batch_size(len(batch.frames))
        self._forecast.learn(len(batch.frames), now - batch.collected_at)
        self._beat(now - batch.collected_at)
        for (lane, frame, _), view, detections in zip(
            batch.frames, batch.views, found, strict=True
        ):
            meters.frame_latency(lane.name, now - frame.captured_at)
            counts, model = lane.status.detections, view.filter.model
            for class_id in view.filter.shown(detections).class_id.tolist():
                counts[model, view.filter.counted_as[class_id]] += 1


def _results(
    frames: Sequence[Taken], found: Sequence[Detections]
) -> Mapping[Lane, Sequence[Result]]:
    """Return the results of a batch by lane: so a lane's sinks are woken once, not per frame."""
    results: dict[Lane, list[Result]] = {}
    for (lane, frame, _), detections in zip(frames, found, strict=True):
        results.setdefault(lane, []).append(Result(frame, detections))
    return results

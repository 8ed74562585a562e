"""The inference stage of one model: takes frames from lanes, runs the engine."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from weakref import WeakKeyDictionary

from centernetd.errors import StartupError
from centernetd.flow import Arrivals, Channel, Inbox, Meters, Reason
from centernetd.inference.collect import (
    Batching,
    Clock,
    Forecast,
    SystemClock,
    Taken,
    collect,
)
from centernetd.inference.delivery import Delivery
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Slot
from centernetd.inference.filter import StreamFilter, StreamFilters
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
    for the oldest slot, passes on its detections and frees it. So the next batch is prepared
    while the current one is computed, with any engine. Both end when every inbox is closed
    and drained, or raise.
    """

    def __init__(
        self,
        detector: Detector,
        filters: Mapping[Inbox, StreamFilters],
        arrivals: Arrivals,
        batching: Batching,
        delivery: Delivery,
        meters: Meters,
        beat: Callable[[float], None],
        slots: int,
    ) -> None:
        """Serve the inboxes of ``filters``, which announce their frames in ``arrivals``.

        What the model finds goes to ``delivery``, which all models share.
        ``beat`` is called per batch: with 0 when it is started, and with its duration in seconds
        when it is finished.
        """
        self._detector = detector
        self._inboxes: list[Inbox] = []
        self._arrivals = arrivals
        self._filters: WeakKeyDictionary[Inbox, StreamFilter] = WeakKeyDictionary()
        self._batching = batching
        self._delivery = delivery
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
        self.inferred = 0
        """Frames that the model ran on."""
        self.ended = False
        """Whether every inbox was closed and drained, so that no other can be served."""
        self.serve(filters)

    @property
    def slots_busy(self) -> int:
        """Slots that hold a batch: being filled, computed or harvested."""
        return self._fed - self._harvested

    def serve(self, filters: Mapping[Inbox, StreamFilters]) -> None:
        """Serve these inboxes too; callable from any thread.

        Raises
        ------
        StartupError
            When every inbox has been closed and drained, which ends the stage.
        """
        with self._serving:
            if self.ended and filters:
                raise StartupError("every stream has ended, and so does the daemon: start it again")
            for inbox, of_stream in filters.items():
                self._filters[inbox] = of_stream.by_model[inbox.model]
                self._delivery.serve(inbox.lane, of_stream)
            self._inboxes.extend(filters)

    def forget(self, inbox: Inbox) -> None:
        """Stop serving ``inbox``, which is closed; callable from any thread."""
        with self._serving:
            self._inboxes.remove(inbox)

    def warm_up(self) -> None:
        """Run an empty batch of each prepared size in each slot, so that its memory is allocated.

        Call it before `feed`, in the same thread. It ends early when every inbox is closed.

        Raises
        ------
        EngineError
            When the engine fails; `harvest` then ends.
        """
        engine = self._detector.engine
        sizes = {engine.bucket(n + 1) for n in range(self._batching.max_size)}
        try:
            for size, slot in product(sorted(sizes, reverse=True), self._slots):
                if self._is_over:
                    return
                began = self._clock.now()
                slot.enqueue(size)
                slot.wait()
                self._beat(self._clock.now() - began)
        except BaseException:
            self._running.close()
            raise

    def prepare_smaller(self) -> None:
        """Prepare the other sizes, unless every inbox is closed; in any thread after `warm_up`.

        Raises
        ------
        EngineError
            When memory is short or the engine fails: batches are padded to the prepared sizes.
        ModelError
            When the model can't be loaded again.
        """
        self._detector.engine.prepare_smaller(lambda: self._is_over)

    def feed(self) -> None:
        """Keep the engine fed until every inbox is closed and drained."""
        try:
            for slot in self._free:
                while not self._feed(slot):
                    if self._end():
                        return
        finally:
            self._running.close()

    def harvest(self) -> None:
        """Pass on the detections of each batch enqueued by `feed`, in order."""
        try:
            for batch in self._running:
                self._deliver(batch)
                self._free.put(batch.slot)
                self._harvested += 1
                del batch  # its pictures are not held while waiting for the next
        finally:
            self._free.close()

    @property
    def _is_over(self) -> bool:
        return self.ended or bool(self._inboxes and self._all_closed)

    @property
    def _all_closed(self) -> bool:
        return all(inbox.closed for inbox in tuple(self._inboxes))

    def _end(self) -> bool:
        """End unless an inbox has been added meanwhile; return whether it ended."""
        with self._serving:
            self.ended = self._all_closed and not any(each.waiting for each in self._inboxes)
        return self.ended

    def _feed(self, slot: Slot) -> bool:
        """Enqueue a batch in ``slot``; return False when every inbox is closed and drained."""
        while frames := collect(
            self._inboxes, self._arrivals, self._batching, self._forecast, self._clock
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
        views = self._detector.fill(slot, images, [self._filters[taken.inbox] for taken in frames])
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
                taken.inbox.drop(taken.ticket, Reason.TOO_OLD)
                continue
            if number > len(kept):
                slot.move(number, len(kept))
            kept.append(number)
        return kept

    def _deliver(self, batch: _Batch) -> None:
        found = self._detector.read(batch.slot, batch.views)
        now, meters = self._clock.now(), self._meters
        for step, seconds in batch.slot.durations().items():
            meters.stage_duration(step, seconds)
        meters.batch_size(len(batch.frames))
        self._forecast.learn(len(batch.frames), now - batch.collected_at)
        self._beat(now - batch.collected_at)
        self.inferred += len(batch.frames)
        images = [taken.frame.image for taken in batch.frames]
        self._delivery.add(batch.frames, found, now)
        del images  # freeing pictures takes its time: not under the lanes' locks

"""Where what all models found in a frame meets, and the frame goes on to its sinks."""

import threading
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from centernetd.flow import Detections, Frame, Lane, Meters, Result
from centernetd.inference.collect import Taken
from centernetd.inference.filter import StreamFilters

Inferred = tuple[Lane, Frame, Detections]
"""A frame that all models of its lane have run on, and what they found."""


def plain_results(inferred: Sequence[Inferred]) -> Sequence[Result]:
    """Return the results as they are."""
    return [Result(frame, found) for _, frame, found in inferred]


class Delivery:
    """Delivers frames once all of their models have run, each stream's in order.

    The models' stages call it from their own threads; it lets in one at a time. A stage gets the
    frames of a lane in order, so a frame that the last of its models completes comes after those
    that were complete before.
    """

    def __init__(
        self,
        meters: Meters,
        make_results: Callable[[Sequence[Inferred]], Sequence[Result]] = plain_results,
    ) -> None:
        """Deliver what ``make_results`` makes of frames, which come in order per lane."""
        self._lock = threading.Lock()
        self._meters = meters
        self._make_results = make_results
        self._filters: WeakKeyDictionary[Lane, StreamFilters] = WeakKeyDictionary()

    def serve(self, lane: Lane, filters: StreamFilters) -> None:
        """Count the detections of ``lane`` by these filters."""
        self._filters[lane] = filters

    def add(self, batch: Sequence[Taken], found: Sequence[Detections], now: float) -> None:
        """Add what one model ``found`` in its frames at monotonic ``now``."""
        with self._lock:
            inferred = [
                (taken.lane, taken.frame, Detections.joined(parts))
                for taken, detections in zip(batch, found, strict=True)
                if (parts := taken.inbox.finish(taken.ticket, detections)) is not None
            ]
            for lane, frame, detections in inferred:
                filters, counts = self._filters[lane], lane.status.detections
                for class_id in filters.shows_of_kept(detections).class_id.tolist():
                    counts[filters.counted_as[class_id]] += 1
                self._meters.frame_latency(lane.name, now - frame.captured_at)
            # Together, so that a lane's sinks are woken once, not per frame.
            results: dict[Lane, list[Result]] = {}
            made = self._make_results(inferred)
            for (lane, _, _), result in zip(inferred, made, strict=True):
                results.setdefault(lane, []).append(result)
            for lane, of_lane in results.items():
                lane.deliver(*of_lane)

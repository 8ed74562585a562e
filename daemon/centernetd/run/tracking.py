"""Following the objects of all streams, between inference and the sinks."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from centernetd.config import StreamConfig
from centernetd.flow import (
    Detections,
    Frame,
    Lane,
    LineCount,
    Meters,
    Result,
    Scene,
    TrackEvent,
    ZoneCount,
)
from centernetd.inference.delivery import Inferred, plain_results
from centernetd.inference.filter import StreamFilters
from centernetd.track import Track, Tracked, Tracker, TrackSettings
from centernetd.track.counts import TrackLedger
from centernetd.track.journeys import Journeys, Moment

log = logging.getLogger(__name__)

_NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
_GRACE = 1.0  # seconds within which a captured frame has come through inference


class StreamTracks:
    """The tracks of one stream: what they do, and what they count as."""

    def __init__(self, config: StreamConfig, filters: StreamFilters) -> None:
        labels = [each.label for each in filters.classes]
        counted = dict(zip(labels, (label for _, label in filters.counted_as), strict=True))
        self.ledger = TrackLedger(config.zones, config.lines, counted)
        self._config = config
        self._shows = filters.shows
        self._journeys = Journeys(config.zones, config.lines, config.track, labels.__getitem__)
        self._latest: Frame | None = None
        self._sum_up()

    @property
    def settings(self) -> TrackSettings:
        """How the tracker follows its objects."""
        track = self._config.track
        return TrackSettings(self._shows, track.max_gap, track.confirm_after)

    def result(self, frame: Frame, found: Detections, tracked: Tracked) -> Result:
        """Return the result of a frame in which ``found`` was detected."""
        self._latest = frame
        moment = Moment(frame.time, frame.wall_time, frame.image.size)
        events = self._post(self._journeys.see(moment, tracked))
        ids = np.where(tracked.confirmed, tracked.tracker_id, -1)[: len(found)]
        more = len(tracked.detections) > len(found)
        predicted = tracked.detections[tracked.predicted] if more else _NOTHING
        scene = Scene(self._journeys.track_ids(tracked), predicted, self._zones, self._lines)
        return Result(frame, replace(found, tracker_id=ids), events, scene)

    def end(self, tracks: Iterable[Track]) -> tuple[TrackEvent, ...]:
        """Return what happens when ``tracks`` end."""
        return self._post(self._journeys.end(tracks))

    def adapt(self, config: StreamConfig) -> tuple[TrackEvent, ...]:
        """Take other zones, lines and times; return what happens thereby."""
        events = self._journeys.replace_places(config.zones, config.lines)
        self.ledger.post(events)
        self.ledger.replace_places(config.zones, config.lines)
        self._config, self._journeys.track = config, config.track
        self._sum_up()
        return events

    @property
    def now(self) -> float | None:
        """The time of a frame that would arrive now; None if the source is a file, or unseen."""
        if self._latest is None or self._config.policy != "live":
            return None
        return self._latest.time + time.monotonic() - self._latest.captured_at - _GRACE

    def _post(self, events: tuple[TrackEvent, ...]) -> tuple[TrackEvent, ...]:
        self.ledger.post(events)
        if any(event.zone or event.line for event in events):
            self._sum_up()
        return events

    def _sum_up(self) -> None:
        """Note the counts that are shown in the frames that follow."""
        book = self.ledger.read()
        inside, crossed = book.objects, book.crossed
        self._zones = tuple(
            ZoneCount(name, zone.polygon, inside[name]) for name, zone in self._config.zones.items()
        )
        self._lines = tuple(
            LineCount(name, line.start, line.to, *crossed[name])
            for name, line in self._config.lines.items()
        )


class Tracking:
    """Turns what inference found in all streams into results; untracked streams cost nothing.

    `results` is called by inference, all else by the main thread, except what lanes call when
    they have drained.
    """

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._lock = threading.Lock()  # for what follows; under it only ledgers' are acquired
        self._tracker = Tracker()
        self._streams: dict[Lane, StreamTracks] = {}

    def serve(self, lane: Lane, tracks: StreamTracks) -> None:
        """Track the objects of ``lane`` from now on, until it has drained."""
        with self._lock:
            self._streams[lane] = tracks
            self._tracker.add(lane, tracks.settings)
        lane.epilogue = lambda: self._finish(lane)

    def results(self, inferred: Sequence[Inferred]) -> Sequence[Result]:
        """Return the results of frames, which come in order per lane."""
        if not self._streams:
            return plain_results(inferred)
        started = time.perf_counter()
        with self._lock:
            followed = [lane in self._streams for lane, _, _ in inferred]
            tracked = iter(
                self._update([each for each, is_ in zip(inferred, followed, strict=True) if is_])
            )
            results = [
                self._result(*each, next(tracked) if is_ else None)
                for each, is_ in zip(inferred, followed, strict=True)
            ]
        self._meters.stage_duration("track", time.perf_counter() - started)
        return results

    def expire(self) -> None:
        """End the tracks of live streams that have shown no frame for long."""
        for lane in [*self._streams]:
            with self._lock:
                tracks = self._streams.get(lane)
                if tracks is None or (now := tracks.now) is None:
                    continue
                events = tracks.end(self._tracker.expire(lane, now))
            lane.report(events)

    def adapt(self, lane: Lane, config: StreamConfig) -> None:
        """Take other zones, lines and times of a stream, whose tracks continue."""
        with self._lock:
            tracks = self._streams.get(lane)
            if tracks is None:
                return
            events = tracks.adapt(config)
            self._tracker.add(lane, tracks.settings)
        lane.report(events)

    def _finish(self, lane: Lane) -> tuple[TrackEvent, ...]:
        """End every track of a lane that delivers no more frames; return what happens thereby."""
        with self._lock:
            tracks = self._streams.pop(lane, None)
            return () if tracks is None else tracks.end(self._tracker.remove(lane))

    def _update(self, batch: Sequence[Inferred]) -> Sequence[Tracked | None]:
        """Track frames together or, if that fails, one by one: only the cause stays untracked."""
        try:
            return self._tracker.update([(lane, frame.time, found) for lane, frame, found in batch])
        except Exception as error:
            if len(batch) == 1:
                self._give_up(batch[0][0], error)
                return [None]
        return [one for each in batch for one in self._update([each])]

    def _result(
        self, lane: Lane, frame: Frame, found: Detections, tracked: Tracked | None
    ) -> Result:
        if tracked is not None and lane in self._streams:
            try:
                return self._streams[lane].result(frame, found, tracked)
            except Exception as error:
                self._give_up(lane, error)
        return Result(frame, found)

    def _give_up(self, lane: Lane, error: Exception) -> None:
        """Follow the objects of a stream no more, after a fault; all else goes on."""
        tracks = self._streams.pop(lane, None)
        if tracks is not None:
            what = "a fault in centernetd while following objects, which ends: %r"
            log.error(what, error, extra={"stream": lane.name})
            log.debug("traceback", exc_info=error, extra={"stream": lane.name})
            with suppress(Exception):  # so that nobody stays inside for ever
                tracks.end(self._tracker.remove(lane))

"""Following the objects of all streams and what they blur, between inference and the sinks."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

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
    Thresholds,
    TrackEvent,
    ZoneCount,
)
from centernetd.inference.delivery import Inferred, plain_results
from centernetd.inference.filter import StreamFilters
from centernetd.track import Track, Tracked, Tracker, TrackSettings
from centernetd.track.counts import TrackLedger
from centernetd.track.journeys import Journeys, Moment

log = logging.getLogger(__name__)

_GRACE = 1.0  # seconds within which a captured frame has come through inference
# Of 3884 faces of at least 40 pixels in eight clips of scripts/measure_blur.py (seeds 101 to 108,
# 720p, 5 frames/s), 179 are open if nothing is presumed, 153 with detections of half the
# confidence, and with predictions too 141 (for 0.2 s), 133 (0.5 s), 123 (1 s) or 120 (2 s).
_PRESUMED = 1.0  # seconds for which a lost track is predicted


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

    def see(self, result: Result, tracked: Tracked) -> Result:
        """Return the ``result`` of a frame with what is known of its tracks."""
        frame, found = result.frame, result.detections
        self._latest = frame
        moment = Moment(frame.time, frame.wall_time, frame.image.size)
        events = self._post(self._journeys.see(moment, tracked))
        ids = np.where(tracked.confirmed, tracked.tracker_id, -1)[: len(found)]
        predicted = tracked.detections[len(found) :]
        scene = Scene(self._journeys.track_ids(tracked), predicted, self._zones, self._lines)
        known = Detections(found.xyxy, found.confidence, found.class_id, found.keypoints, ids)
        return replace(result, detections=known, events=events, scene=scene)

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
        if events:
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


class BlurTracks:
    """The tracks of what one stream blurs, which stays covered while the detector loses it.

    ``covers`` starts a track. It is followed by detections of half that confidence, and where there
    is none, by prediction.
    """

    def __init__(self, covers: Thresholds) -> None:
        self.settings = TrackSettings(covers, max_gap=_PRESUMED, confirm_after=0, predict=_PRESUMED)

    def see(self, result: Result, tracked: Tracked) -> Result:
        """Return the ``result`` of a frame with the boxes where what is blurred is presumed."""
        found, least = result.detections, self.settings.confidence.least
        presumed = tracked.tracker_id >= 0
        presumed[: len(found)] &= found.confidence < least[found.class_id]
        return replace(result, presumed=tracked.detections.xyxy[presumed])


Follower = StreamTracks | BlurTracks


class _Turn(NamedTuple):
    """A frame for one of those that follow what its lane shows, and the frame's ``row``."""

    lane: Lane
    follower: Follower
    row: int
    result: Result


class Tracking:
    """Turns what inference found in all streams into results; streams without tracks cost nothing.

    `results` is called by inference, all else by the main thread, except what lanes call when
    they have drained.
    """

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._lock = threading.Lock()  # for what follows; under it only ledgers' are acquired
        self._tracker = Tracker()
        self._streams: dict[Lane, StreamTracks] = {}
        self._blurs: dict[Lane, BlurTracks] = {}

    def serve(self, lane: Lane, objects: StreamTracks | None, blur: BlurTracks | None) -> None:
        """Follow the objects of ``lane``, and what it blurs, from now on, until it has drained."""
        with self._lock:
            if objects is not None:
                self._streams[lane] = objects
                self._tracker.add(objects, objects.settings)
            if blur is not None:
                self._blurs[lane] = blur
                self._tracker.add(blur, blur.settings)
        lane.epilogue = lambda: self._finish(lane)

    def results(self, inferred: Sequence[Inferred]) -> Sequence[Result]:
        """Return the results of frames, which come in order per lane."""
        results = [*plain_results(inferred)]
        if not self._streams and not self._blurs:
            return results
        started = time.perf_counter()
        with self._lock:
            turns = [
                _Turn(lane, follower, row, results[row])
                for followers in (self._streams, self._blurs)
                for row, (lane, _, _) in enumerate(inferred)
                if (follower := followers.get(lane)) is not None
            ]
            for turn, tracked in zip(turns, self._update(turns), strict=True):
                results[turn.row] = self._see(turn, results[turn.row], tracked)
        self._meters.stage_duration("track", time.perf_counter() - started)
        return results

    def expire(self) -> None:
        """End the tracks of live streams that have shown no frame for long."""
        for lane in [*self._streams]:
            with self._lock:
                tracks = self._streams.get(lane)
                if tracks is None or (now := tracks.now) is None:
                    continue
                events = tracks.end(self._tracker.expire(tracks, now))
            lane.report(events)

    def adapt(self, lane: Lane, config: StreamConfig) -> None:
        """Take other zones, lines and times of a stream, whose tracks continue."""
        with self._lock:
            tracks = self._streams.get(lane)
            if tracks is None:
                return
            events = tracks.adapt(config)
            self._tracker.add(tracks, tracks.settings)
        lane.report(events)

    def _finish(self, lane: Lane) -> tuple[TrackEvent, ...]:
        """End every track of a lane that delivers no more frames; return what happens thereby."""
        with self._lock:
            blur = self._blurs.pop(lane, None)
            if blur is not None:
                self._tracker.remove(blur)
            tracks = self._streams.pop(lane, None)
            return () if tracks is None else tracks.end(self._tracker.remove(tracks))

    def _update(self, turns: Sequence[_Turn]) -> Sequence[Tracked | None]:
        """Track frames together or, if that fails, one by one: only the cause stays untracked."""
        try:
            return self._tracker.update(
                [(each.follower, each.result.frame.time, each.result.detections) for each in turns]
            )
        except Exception as error:
            if len(turns) == 1:
                self._give_up(turns[0], error)
                return [None]
        return [one for each in turns for one in self._update([each])]

    def _see(self, turn: _Turn, result: Result, tracked: Tracked | None) -> Result:
        following = turn.follower in (self._streams.get(turn.lane), self._blurs.get(turn.lane))
        if tracked is not None and following:
            try:
                return turn.follower.see(result, tracked)
            except Exception as error:
                self._give_up(turn, error)
        return result

    def _give_up(self, turn: _Turn, error: Exception) -> None:
        """Follow what a stream shows no more, after a fault; all else goes on."""
        objects = isinstance(turn.follower, StreamTracks)
        followed = self._streams if objects else self._blurs
        if followed.pop(turn.lane, None) is None:
            return
        what = "a fault in centernetd while following %s, which ends: %r"
        about = {"stream": turn.lane.name}
        log.error(what, "objects" if objects else "what is blurred", error, extra=about)
        log.debug("traceback", exc_info=error, extra=about)
        with suppress(Exception):  # so that nobody stays inside for ever
            ended = self._tracker.remove(turn.follower)
            if isinstance(turn.follower, StreamTracks):
                turn.follower.end(ended)

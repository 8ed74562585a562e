"""What happens to the tracks of one stream: they start, enter, leave, cross and end."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from centernetd.config import LineConfig, TrackConfig, ZoneConfig
from centernetd.flow import Box, TrackEvent, uuid7
from centernetd.track.places import Line, Point, Side, Step, Zone
from centernetd.track.tracker import Track, Tracked

UPDATE_INTERVAL = 1.0
"""Seconds between two updates about a track."""
PATIENCE = 5.0
"""Seconds after which a track has changed sides, however near to the edge it stays."""
_MIN_SIZE = 1e-6  # of a box, as a share of the picture
_VISIBLE = (1e-9, 1 - 1e-9)  # positions, within the picture and not on its border


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame's time on the stream's timeline, its Unix time, and its picture's height and width.

    Both times are in seconds.
    """

    time: float
    wall_time: float
    size: tuple[int, int]


@dataclass(slots=True)
class _Stay:
    """A track at one place.

    ``depth`` is the smoothed one when it was last looked at. In a zone, ``inside_since`` is set
    while it is inside, ``inside_until`` is when it was last known to be, and ``counted`` whether
    its entry was. At a line, ``across`` is whether it left its settled side across the line and
    not past its ends.
    """

    side: Side = field(default_factory=Side)
    depth: float = 0.0
    inside_since: float | None = None
    inside_until: float = 0.0
    counted: bool = False
    across: bool = False

    @property
    def clearance(self) -> float:
        """How many box sizes it may move before anything can change; 0 if time alone changes it."""
        waits = self.inside_since is not None and not self.counted
        return 0.0 if waits or self.side.present != self.side.settled else abs(self.depth)


@dataclass(slots=True)
class _Journey:
    """A track so far. Its ``events`` wait until it is confirmed, which gives it a ``label``.

    ``smooth`` is its smoothed box in the frame in which it was last seen, at ``moved_at``. It is
    not looked at before it has moved by ``clearance`` box sizes from where it was, ``reference``.
    """

    track_id: str
    tracker_id: int
    began: Moment
    seen: Moment
    box: Box
    score: float = 0.0
    label: str | None = None
    updated: float = 0.0
    events: list[TrackEvent] = field(default_factory=list)
    smooth: Sequence[float] | None = None
    moved_at: float = 0.0
    reference: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    clearance: float = 0.0
    stays: dict[Zone | Line, _Stay] = field(default_factory=dict)
    crossings: list[tuple[str, str]] = field(default_factory=list)
    zones: dict[str, float] = field(default_factory=dict)

    def report(self, kind: Any, **details: Any) -> None:  # noqa: ANN401
        """Add an event at the moment the track was last seen."""
        event = TrackEvent(
            kind,
            self.track_id,
            self.tracker_id,
            self.label or "",
            self.score,
            self.seen.time,
            self.seen.wall_time,
            self.box,
            self.seen.size,
            **details,
        )
        self.events.append(event)


class Journeys:
    """Follows the tracks of one stream through its zones and across its lines.

    It takes what `Tracker` returns about the stream, all of it and in order. Predicted boxes move
    nobody: an object that was not seen for a while went straight from where it was last seen. What
    a track did before it was confirmed is reported when it is.
    """

    def __init__(
        self,
        zones: Mapping[str, ZoneConfig],
        lines: Mapping[str, LineConfig],
        track: TrackConfig,
        label_of: Callable[[int], str],
    ) -> None:
        """Watch these places; ``label_of`` names a class."""
        self.track = track
        self._label_of = label_of
        self._places = [*_places(zones, lines)]
        self._journeys: dict[int, _Journey] = {}

    def replace_places(
        self, zones: Mapping[str, ZoneConfig], lines: Mapping[str, LineConfig]
    ) -> tuple[TrackEvent, ...]:
        """Watch these places instead; whoever is in a zone that changes leaves it first."""
        kept = {(type(place), place.name, place.config): place for place in self._places}
        after = [
            kept.get((type(place), place.name, place.config), place)
            for place in _places(zones, lines)
        ]
        for place in set(self._places) - set(after):
            for journey in self._journeys.values():
                stay = journey.stays.pop(place, None)
                if stay is not None and isinstance(place, Zone):
                    _leave_last(journey, place, stay)
        for journey in self._journeys.values():
            journey.clearance = 0.0
        self._places = after
        return self._reported(self._journeys.values())

    def see(self, moment: Moment, tracked: Tracked) -> tuple[TrackEvent, ...]:
        """Take the tracks of a frame; return what has happened since the frame before."""
        ended = self.end(tracked.ended)
        found, numbers = tracked.detections, tracked.tracker_id
        seen = (numbers >= 0) & ~tracked.predicted
        ids = numbers[seen].tolist()
        boxes, scores = found.xyxy[seen], found.confidence[seen].tolist()
        for tracker_id, box, score in zip(ids, boxes.tolist(), scores, strict=True):
            self._meet(tracker_id, moment, tuple(box), score)
        if self._places:
            smooth = tracked.smooth[seen].tolist()
            for number, box, smoothed in zip(ids, boxes.tolist(), smooth, strict=True):
                self._move(self._journeys[number], box, smoothed, moment)
        for track in tracked.started:
            self._confirm(track)
        self._forget_unconfirmed(moment.time)
        ids += [track.tracker_id for track in tracked.started]
        return ended + self._reported(self._journeys[number] for number in ids)

    def end(self, tracks: Iterable[Track]) -> tuple[TrackEvent, ...]:
        """Take the confirmed tracks that have ended: they leave every zone they are in."""
        ended = []
        for track in tracks:
            journey = self._journeys.pop(track.tracker_id)
            for place, stay in journey.stays.items():
                if isinstance(place, Zone):
                    _leave_last(journey, place, stay)
                elif stay.across and self._is_beyond(stay.side, journey.seen.time):
                    _cross(journey, place, stay)
            journey.report(
                "end",
                first=journey.began.wall_time,
                crossings=tuple(journey.crossings),
                zones=journey.zones,
            )
            ended.append(journey)
        return self._reported(ended)

    def track_ids(self, tracked: Tracked) -> dict[int, str]:
        """Return the names of the confirmed tracks in a frame, which `see` has taken."""
        numbers = tracked.tracker_id[tracked.confirmed].tolist()
        return {number: self._journeys[number].track_id for number in numbers}

    def _meet(self, tracker_id: int, moment: Moment, box: Box, score: float) -> None:
        journey = self._journeys.get(tracker_id)
        if journey is None:
            track_id = uuid7(moment.wall_time)
            journey = _Journey(track_id, tracker_id, moment, moment, box)
            self._journeys[tracker_id] = journey
        journey.score = max(journey.score, score)
        journey.box, journey.seen = box, moment
        if journey.label is not None and moment.time - journey.updated >= UPDATE_INTERVAL:
            journey.updated = moment.time
            journey.report("update")

    def _move(
        self, journey: _Journey, box: Sequence[float], smooth: Sequence[float], moment: Moment
    ) -> None:
        """Follow an object to where its box was detected, and where that is smoothed."""
        before, last = journey.smooth or smooth, journey.moved_at
        journey.smooth, journey.moved_at = smooth, moment.time
        if journey.clearance and _is_near(journey, box, smooth):
            return
        picture = moment.size
        sizes, seconds = (_size(box, picture), _size(smooth, picture)), moment.time - last
        clearance = math.inf
        for place in self._places:
            if journey.label is None or _counts(place, journey.label):
                anchor = place.config.anchor
                detected, end = _point(box, anchor, picture), _point(smooth, anchor, picture)
                depths = place.depth(detected, sizes[0]), place.depth(end, sizes[1])
                step = Step(_point(before, anchor, picture), end, sizes[1], seconds)
                stay = journey.stays.setdefault(place, _Stay())
                self._visit(journey, place, stay, depths, step)
                clearance = min(clearance, stay.clearance)
        journey.reference, journey.clearance = smooth, clearance

    def _visit(
        self,
        journey: _Journey,
        place: Zone | Line,
        stay: _Stay,
        depths: tuple[float, float],
        step: Step,
    ) -> None:
        side, now = stay.side, journey.seen.time
        before, stay.depth = stay.depth, depths[1]
        if side.present > 0:
            stay.inside_until = now - step.seconds
        if isinstance(place, Line):
            was_right, is_right = before >= 0, depths[1] >= 0
            if side.settled and was_right != is_right and was_right == (side.settled > 0):
                stay.across = place.is_met(step)
            patience = PATIENCE if side.settled else self.track.confirm_after
            if side.see(depths, now, patience) and stay.across:
                _cross(journey, place, stay)
            return
        patience = PATIENCE if side.settled > 0 else self.track.confirm_after
        if side.see(depths, now, patience):
            if side.settled > 0:
                stay.inside_since = side.since
            else:
                _leave(journey, place, stay)
        elif side.settled < 0 and step.length > abs(depths[1]):
            _pass(journey, place, stay, step)
        if stay.inside_since is not None and side.present > 0:
            stay.inside_until = now
            _enter(journey, place, stay)

    def _is_beyond(self, side: Side, seen: float) -> bool:
        """Return whether a track was seen to its end on a side that it has not settled on."""
        settled = side.present in (0, side.settled) or not side.settled
        return not settled and seen - side.since >= self.track.confirm_after

    def _confirm(self, track: Track) -> None:
        journey = self._journeys[track.tracker_id]
        journey.label = label = self._label_of(track.class_id)
        journey.score = max(journey.score, track.confidence)
        journey.updated = journey.seen.time
        places = {(type(place), place.name) for place in self._places if _counts(place, label)}
        journey.stays = {
            place: stay for place, stay in journey.stays.items() if _counts(place, label)
        }
        journey.clearance = 0.0
        waiting, journey.events = journey.events, []
        journey.report("start")
        for event in waiting:
            kind, name = (Zone, event.zone) if event.zone is not None else (Line, event.line)
            if (kind, name) in places:
                journey.events.append(replace(event, label=label))

    def _forget_unconfirmed(self, now: float) -> None:
        """Forget the tracks that ended before they were confirmed, which nobody reports."""
        for number, journey in [*self._journeys.items()]:
            if journey.label is None and now - journey.seen.time > self.track.max_gap:
                del self._journeys[number]

    def _reported(self, journeys: Iterable[_Journey]) -> tuple[TrackEvent, ...]:
        """Return, once, the events of those of ``journeys`` that are confirmed."""
        events: list[TrackEvent] = []
        for journey in journeys:
            if journey.label is not None and journey.events:
                events += journey.events
                journey.events = []
        return tuple(events)


def _places(
    zones: Mapping[str, ZoneConfig], lines: Mapping[str, LineConfig]
) -> Iterator[Zone | Line]:
    yield from (Zone(name, config) for name, config in zones.items())
    yield from (Line(name, config) for name, config in lines.items())


def _size(box: Sequence[float], size: tuple[int, int]) -> Point:
    height, width = size
    return max(_MIN_SIZE, (box[2] - box[0]) / width), max(_MIN_SIZE, (box[3] - box[1]) / height)


def _point(box: Sequence[float], anchor: str, size: tuple[int, int]) -> Point:
    """Return the anchor of a box, as shares of the picture and within it."""
    height, width = size
    y = box[3] if anchor == "bottom" else (box[1] + box[3]) / 2
    low, high = _VISIBLE
    x = (box[0] + box[2]) / 2 / width
    return min(high, max(low, x)), min(high, max(low, y / height))


def _is_near(journey: _Journey, box: Sequence[float], smooth: Sequence[float]) -> bool:
    """Return whether a track is nearer to its reference than any edge was.

    No point of a box moves farther than its sides, so this holds for any anchor.
    """
    (left, top, right, bottom), (x1, y1, x2, y2) = journey.reference, smooth
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    x = max(abs(x1 - left), abs(x2 - right), abs(box[0] - left), abs(box[2] - right)) / width
    y = max(abs(y1 - top), abs(y2 - bottom), abs(box[1] - top), abs(box[3] - bottom)) / height
    grown = max(width / max(right - left, 1.0), height / max(bottom - top, 1.0), 1.0)
    return math.hypot(x, y) * grown < journey.clearance


def _counts(place: Zone | Line, label: str) -> bool:
    return not place.config.labels or label in place.config.labels


def _cross(journey: _Journey, line: Line, stay: _Stay) -> None:
    direction = "in" if stay.side.present > 0 else "out"
    stay.across = False
    journey.crossings.append((line.name, direction))
    journey.report("cross", line=line.name, direction=direction)


def _enter(journey: _Journey, zone: Zone, stay: _Stay) -> None:
    """Count the entry of a track that is inside, once it has stayed for long enough."""
    if stay.inside_since is not None and not stay.counted:
        stay.counted = stay.inside_until - stay.inside_since >= zone.config.min_dwell
        if stay.counted:
            journey.report("enter", zone=zone.name)


def _leave(journey: _Journey, zone: Zone, stay: _Stay) -> None:
    if stay.inside_since is not None and stay.counted:
        dwell = stay.inside_until - stay.inside_since
        journey.zones[zone.name] = journey.zones.get(zone.name, 0.0) + dwell
        journey.report("leave", zone=zone.name, dwell=dwell)
    stay.inside_since, stay.counted = None, False


def _leave_last(journey: _Journey, zone: Zone, stay: _Stay) -> None:
    """Count the exit of a track that is not going to be seen any more."""
    if stay.side.present > 0:
        stay.inside_until = journey.seen.time
    _leave(journey, zone, stay)


def _pass(journey: _Journey, zone: Zone, stay: _Stay, step: Step) -> None:
    """Notice that a track was clearly inside between two frames, though in neither of them."""
    if (inside := zone.passage(step)) is None:
        return
    began = journey.seen.time - step.seconds
    stay.inside_since, stay.inside_until = (began + share * step.seconds for share in inside)
    if stay.side.present > 0:
        stay.side.settled = 1
    else:
        _enter(journey, zone, stay)
        _leave(journey, zone, stay)

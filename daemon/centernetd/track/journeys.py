"""What happens to the tracks of one stream: they start, enter, leave, cross and end."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from centernetd.config import LineConfig, TrackConfig, ZoneConfig
from centernetd.flow import TrackEvent, uuid7
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
    def settled(self) -> bool:
        """Whether time alone changes nothing, as long as the track stays on its side."""
        waits = self.inside_since is not None and not self.counted
        return not waits and self.side.settled != 0 and self.side.present == self.side.settled

    @property
    def clearance(self) -> float:
        """How many box sizes it may move before anything can change; 0 if time alone changes it."""
        return abs(self.depth) if self.settled else 0.0

    def remains(self, depth: float, moved: float) -> bool:
        """Return whether a way of ``moved`` box sizes that ends at ``depth`` changes nothing."""
        return self.settled and abs(depth) > moved and (depth > 0) == (self.side.settled > 0)


class _Around(NamedTuple):
    """The boxes that are nearer to a certain one, at every anchor, than any edge is.

    ``centre`` is twice its x, and ``reach`` the square of the edge's distance in its sizes.
    """

    centre: float
    top: float
    bottom: float
    width: float
    height: float
    reach: float

    def has(self, box: Sequence[float]) -> bool:
        """Return whether ``box`` is one of them; corners are x1, y1, x2, y2."""
        centre, top, bottom, width, height, reach = self
        across = (box[0] + box[2] - centre) / (2 * width)
        upper, lower = box[1] - top, box[3] - bottom
        along = (upper if abs(upper) > abs(lower) else lower) / height
        return across * across + along * along < reach


_NOWHERE = _Around(0.0, 0.0, 0.0, 1.0, 1.0, 0.0)


@dataclass(slots=True)
class _Journey:
    """A track so far. Its ``events`` wait until it is confirmed, which gives it a ``label``.

    ``smooth`` is its smoothed box in the frame in which it was last ``seen``. Its places are not
    looked at while it is ``around`` where it was when they last were.
    """

    track_id: str
    tracker_id: int
    began: Moment
    seen: Moment
    box: Sequence[float] = ()
    score: float = 0.0
    label: str | None = None
    updated: float = 0.0
    events: list[TrackEvent] = field(default_factory=list)
    smooth: Sequence[float] | None = None
    around: _Around = _NOWHERE
    stays: dict[Zone | Line, _Stay] = field(default_factory=dict)
    crossings: list[tuple[str, str]] = field(default_factory=list)
    zones: dict[str, float] = field(default_factory=dict)

    def report(self, kind: Any, **details: Any) -> None:  # noqa: ANN401
        """Add an event at the moment the track was last seen."""
        x1, y1, x2, y2 = self.box
        event = TrackEvent(
            kind,
            self.track_id,
            self.tracker_id,
            self.label or "",
            self.score,
            self.seen.time,
            self.seen.wall_time,
            (x1, y1, x2, y2),
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
        self._watch(_places(zones, lines))
        self._journeys: dict[int, _Journey] = {}
        self._unconfirmed: dict[int, _Journey] = {}  # those of them that are

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
            journey.around = _NOWHERE
        self._watch(after)
        return self._reported(self._journeys.values())

    def see(self, moment: Moment, tracked: Tracked) -> tuple[TrackEvent, ...]:
        """Take the tracks of a frame; return what has happened since the frame before."""
        ended = self.end(tracked.ended)
        found, now, places = tracked.detections, moment.time, self._places
        changed = []
        # Lists, since indexing arrays costs more; and one loop, since most objects just move on.
        for number, predicted, box, smooth, score in zip(
            tracked.tracker_id.tolist(),
            tracked.predicted.tolist(),
            found.xyxy.tolist(),
            tracked.smooth.tolist(),
            found.confidence.tolist(),
            strict=True,
        ):
            if predicted or number < 0:
                continue
            journey = self._journeys.get(number) or self._begin(number, moment)
            last, journey.seen, journey.box = journey.seen.time, moment, box
            if score > journey.score:
                journey.score = score
            if journey.label is not None and now - journey.updated >= UPDATE_INTERVAL:
                journey.updated = now
                journey.report("update")
            if places:
                if not (journey.around.has(box) and journey.around.has(smooth)):
                    self._move(journey, smooth, now - last)
                journey.smooth = smooth
            if journey.events or journey.label is None:
                changed.append(journey)
        for track in tracked.started:
            self._confirm(track)
        self._forget_unconfirmed(now)
        return ended + self._reported(changed)

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

    def _watch(self, places: Iterable[Zone | Line]) -> None:
        self._places = [*places]
        self._anchors = {place.config.anchor for place in self._places}

    def _begin(self, tracker_id: int, moment: Moment) -> _Journey:
        journey = _Journey(uuid7(moment.wall_time), tracker_id, moment, moment)
        self._journeys[tracker_id] = self._unconfirmed[tracker_id] = journey
        return journey

    def _move(self, journey: _Journey, smooth: Sequence[float], seconds: float) -> None:
        """Follow an object to where its box was detected, and where that is ``smooth``."""
        before, box, picture = journey.smooth or smooth, journey.box, journey.seen.size
        detected_size, size = _size(box, picture), _size(smooth, picture)
        ways = {}
        for anchor in self._anchors:
            start, detected, end = (_point(each, anchor, picture) for each in (before, box, smooth))
            step = Step(start, end, size, seconds)
            ways[anchor] = detected, step, max(step.length, Step(detected, end, size, 0.0).length)
        clearance = math.inf
        for place in self._places:
            if journey.label is None or _counts(place, journey.label):
                detected, step, moved = ways[place.config.anchor]
                depth = place.depth(step.end, size)
                if (stay := journey.stays.get(place)) is None:
                    stay = journey.stays[place] = _Stay()
                if stay.remains(depth, moved):
                    stay.depth = depth
                    if depth > 0:
                        stay.inside_until = journey.seen.time
                else:
                    depths = place.depth(detected, detected_size), depth
                    self._visit(journey, place, stay, depths, step)
                clearance = min(clearance, stay.clearance)
        (height, width), (left, top, right, bottom) = picture, smooth
        sides = size[0] * width, size[1] * height
        journey.around = _Around(left + right, top, bottom, *sides, clearance**2)

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
        journey = self._unconfirmed.pop(track.tracker_id)
        journey.label = label = self._label_of(track.class_id)
        journey.score = max(journey.score, track.confidence)
        journey.updated = journey.seen.time
        places = {(type(place), place.name) for place in self._places if _counts(place, label)}
        journey.stays = {
            place: stay for place, stay in journey.stays.items() if _counts(place, label)
        }
        journey.around = _NOWHERE
        waiting, journey.events = journey.events, []
        journey.report("start")
        for event in waiting:
            kind, name = (Zone, event.zone) if event.zone is not None else (Line, event.line)
            if (kind, name) in places:
                journey.events.append(replace(event, label=label))

    def _forget_unconfirmed(self, now: float) -> None:
        """Forget the tracks that ended before they were confirmed, which nobody reports."""
        for number, journey in [*self._unconfirmed.items()]:
            if now - journey.seen.time > self.track.max_gap:
                del self._journeys[number], self._unconfirmed[number]

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
    x = (box[0] + box[2]) / 2 / width
    y = (box[3] if anchor == "bottom" else (box[1] + box[3]) / 2) / height
    low, high = _VISIBLE
    if low <= x <= high and low <= y <= high:
        return x, y
    return min(high, max(low, x)), min(high, max(low, y))


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

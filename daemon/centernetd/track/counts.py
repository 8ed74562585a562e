"""The double-entry ledger of one stream's tracks: nobody enters, leaves or ends uncounted."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from centernetd.config import LineConfig, ZoneConfig
from centernetd.flow import TrackEvent

DWELLS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""The upper bounds, in seconds, of the buckets in which stays are counted."""
ALL = "all"
"""The label under which a zone or line counts that names none."""
DIRECTIONS = ("in", "out")

Visit = tuple[str, str]  # zone, label
Crossing = tuple[str, str, str]  # line, direction, label
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Dwells:
    """Finished stays in a zone: their number by bucket of `DWELLS`, beyond all last, and sum."""

    buckets: tuple[int, ...] = (0,) * (len(DWELLS) + 1)
    seconds: float = 0.0

    def with_stay(self, seconds: float) -> "Dwells":
        """Return these and one more."""
        at = bisect_left(DWELLS, seconds)
        buckets = (*self.buckets[:at], self.buckets[at] + 1, *self.buckets[at + 1 :])
        return Dwells(buckets, self.seconds + seconds)


@dataclass(frozen=True)
class TrackBook:
    """A consistent snapshot: tracks by label, visits by zone and label, and all crossings.

    ``former`` has the entries, exits, and crossings in and out, of places that were replaced.
    """

    started: Mapping[str, int]
    ended: Mapping[str, int]
    live: Mapping[str, int]
    entries: Mapping[Visit, int]
    exits: Mapping[Visit, int]
    inside: Mapping[Visit, int]
    crossings: Mapping[Crossing, int]
    dwells: Mapping[str, Dwells]
    former: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        """Whether started = ended + live by label, and entries = exits + inside by visit."""
        tracks = all(n == self.ended[key] + self.live[key] for key, n in self.started.items())
        visits = all(n == self.exits[key] + self.inside[key] for key, n in self.entries.items())
        return tracks and visits and self.former["entries"] == self.former["exits"]

    @property
    def objects(self) -> dict[str, int]:
        """The number of objects now in each zone."""
        objects = dict.fromkeys(self.dwells, 0)
        for (zone, _), count in self.inside.items():
            objects[zone] += count
        return objects

    @property
    def crossed(self) -> dict[str, tuple[int, int]]:
        """How often each line was crossed, in and out."""
        crossed: dict[str, tuple[int, int]] = {}
        for (line, direction, _), count in self.crossings.items():
            inward, outward = crossed.get(line, (0, 0))
            both = (inward + count, outward) if direction == "in" else (inward, outward + count)
            crossed[line] = both
        return crossed

    def receipt(self) -> str:
        """Return a line about tracks, visits to zones, and crossings of lines.

        It reads ``5 tracks = 5 ended + 0 live; 3 entries = 3 exits + 0 inside; 2 in, 1 out``.
        Places that were replaced count too. What belongs to zones or lines is left out if there
        were none.
        """
        tracks, ended, live = (sum(each.values()) for each in (self.started, self.ended, self.live))
        parts = [f"{tracks} tracks = {ended} ended + {live} live"]
        former = self.former
        if self.entries or former["entries"]:
            entries = sum(self.entries.values()) + former["entries"]
            exits = sum(self.exits.values()) + former["exits"]
            parts.append(f"{entries} entries = {exits} exits + {sum(self.inside.values())} inside")
        if self.crossings or former["in"] + former["out"]:
            ways = Counter({way: former[way] for way in DIRECTIONS})
            for (_, way, _), count in self.crossings.items():
                ways[way] += count
            parts.append(f"{ways['in']} in, {ways['out']} out")
        return "; ".join(parts)


class TrackLedger:
    """Counts the tracks of one stream, from their events.

    At any moment tracks started = ended + live, and in each zone entries = exits + inside. A track
    that ends or leaves but was not there is a programming error and raises.
    """

    def __init__(
        self,
        zones: Mapping[str, ZoneConfig],
        lines: Mapping[str, LineConfig],
        counted_as: Mapping[str, str],
    ) -> None:
        """Count at these places; ``counted_as`` gives the label under which tracks count."""
        self._lock = threading.Lock()
        self._counted_as = counted_as
        labels = sorted({*counted_as.values()})
        self._started, self._ended, self._live = (
            Counter(dict.fromkeys(labels, 0)) for _ in range(3)
        )
        self._entries: Counter[Visit] = Counter()
        self._exits: Counter[Visit] = Counter()
        self._inside: Counter[Visit] = Counter()
        self._crossings: Counter[Crossing] = Counter()
        self._dwells: dict[str, Dwells] = {}
        self._former = Counter({"entries": 0, "exits": 0, "in": 0, "out": 0})
        self.replace_places(zones, lines)

    def replace_places(
        self, zones: Mapping[str, ZoneConfig], lines: Mapping[str, LineConfig]
    ) -> None:
        """Count at these places; those of before that remain are counted on.

        Nobody may be in a zone that does not remain.
        """
        visits = [(name, label) for name, zone in zones.items() for label in zone.labels or (ALL,)]
        crossings = [
            (name, direction, label)
            for name, line in lines.items()
            for direction, label in product(DIRECTIONS, line.labels or (ALL,))
        ]
        with self._lock:
            self._former["entries"] += sum(_keep(self._entries, visits).values())
            self._former["exits"] += sum(_keep(self._exits, visits).values())
            _keep(self._inside, visits)
            for (_, direction, _), count in _keep(self._crossings, crossings).items():
                self._former[direction] += count
            self._dwells = {name: self._dwells.get(name, Dwells()) for name in zones}

    def post(self, events: Iterable[TrackEvent]) -> None:
        """Count what has happened, in order."""
        with self._lock:
            for event in events:
                label = self._counted_as.get(event.label, event.label)
                if event.type == "start":
                    self._started[label] += 1
                    self._live[label] += 1
                elif event.type == "end":
                    _take(self._live, label)
                    self._ended[label] += 1
                elif event.line is not None:
                    self._post_crossing(event.line, str(event.direction), event.label)
                elif event.zone is not None:
                    self._post_visit(event.zone, event.label, event.dwell)

    def read(self) -> TrackBook:
        """Return a consistent snapshot."""
        with self._lock:
            return TrackBook(
                started=self._started.copy(),
                ended=self._ended.copy(),
                live=self._live.copy(),
                entries=self._entries.copy(),
                exits=self._exits.copy(),
                inside=self._inside.copy(),
                crossings=self._crossings.copy(),
                dwells=dict(self._dwells),
                former=self._former.copy(),
            )

    def _post_crossing(self, line: str, direction: str, label: str) -> None:
        named = (line, direction, label) in self._crossings
        self._crossings[line, direction, label if named else ALL] += 1

    def _post_visit(self, zone: str, label: str, dwell: float | None) -> None:
        """Count an entry or, with ``dwell``, an exit."""
        visit = (zone, label) if (zone, label) in self._entries else (zone, ALL)
        if dwell is None:
            self._entries[visit] += 1
            self._inside[visit] += 1
        else:
            _take(self._inside, visit)
            self._exits[visit] += 1
            self._dwells[zone] = self._dwells[zone].with_stay(dwell)


def _keep(counter: Counter[Key], keys: Iterable[Key]) -> dict[Key, int]:
    """Let a counter have these keys and no others, whose counts are returned."""
    kept = {key: counter[key] for key in keys}
    others = {key: count for key, count in counter.items() if key not in kept}
    counter.clear()
    counter.update(kept)
    return others


def _take(counter: Counter[Key], key: Key) -> None:
    if counter[key] <= 0:
        raise RuntimeError(f"there is no {key!r} that could leave")
    counter[key] -= 1

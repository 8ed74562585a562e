"""Tracks in zones and across lines: every way of crossing, entering and leaving counts right."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from centernetd.config import LineConfig, TrackConfig, ZoneConfig
from centernetd.flow import Thresholds, TrackEvent
from centernetd.track import Tracker, TrackSettings
from centernetd.track import journeys as journeys_module
from centernetd.track.counts import TrackBook, TrackLedger
from centernetd.track.journeys import Journeys, Moment
from tests.scenes import SIZE, PerfectTracker, Point, Walker, found, times

TRACK = TrackConfig()
SETTINGS = TrackSettings(Thresholds(np.full(2, 0.5, np.float32)))
LABELS = ("person", "car")
DOOR = ZoneConfig(polygon=((0.3, 0.3), (0.7, 0.3), (0.7, 0.8), (0.3, 0.8)))
WALL_TIME = 1_700_000_000.0


def line(start: Point, to: Point, **more: object) -> LineConfig:
    return LineConfig.model_validate({"from": start, "to": to, **more})


GATE = line((0.2, 0.5), (0.8, 0.5))  # from left to right: in is downwards


class Seen(NamedTuple):
    events: list[TrackEvent]
    book: TrackBook

    def kinds(self, *kinds: str) -> list[str]:
        """Return what happened, in order, without updates."""
        return [
            event.type if event.direction is None else event.direction
            for event in self.events
            if event.type != "update" and (not kinds or event.type in kinds)
        ]


Hidden = Callable[[float], Sequence[int]]


def nobody(_: float) -> Sequence[int]:
    return ()


def moment(time: float) -> Moment:
    return Moment(time, WALL_TIME + time, SIZE)


def watch(
    *walkers: Walker,
    zones: dict[str, ZoneConfig] | None = None,
    lines: dict[str, LineConfig] | None = None,
    fps: float = 25.0,
    hidden: Hidden = nobody,
    exact: bool = True,
) -> Seen:
    """Return what walkers count as; at every moment the counts must add up.

    With ``exact`` ids are those of the walkers, otherwise `Tracker` finds them.
    """
    zones, lines = zones or {}, lines or {}
    journeys = Journeys(zones, lines, TRACK, LABELS.__getitem__)
    ledger = TrackLedger(zones, lines, dict(zip(LABELS, LABELS, strict=True)))
    perfect, tracker = PerfectTracker(), Tracker()
    tracker.add("scene", SETTINGS)
    seen: list[TrackEvent] = []
    end = max(walker.ends for walker in walkers)
    for time in times(end, fps):
        detections = found(walkers, time, hidden(time))
        if exact:
            tracked = perfect.update(time, detections)
        else:
            (tracked,) = tracker.update([("scene", time, detections)])
        events = journeys.see(moment(time), tracked)
        ledger.post(events)
        assert ledger.read().balanced
        seen += events
    later = end + 2 * TRACK.max_gap
    gone = perfect.expire(later) if exact else tracker.expire("scene", later)
    events = journeys.end(gone)
    ledger.post(events)
    book = ledger.read()
    assert book.balanced
    assert not any(book.live.values())
    assert not any(book.inside.values())
    return Seen([*seen, *events], book)


def down(x: float = 0.5, **more: object) -> Walker:
    return Walker([(x, 0.35), (x, 0.75)], [2.0], [0.5, 0.5], **more)  # type: ignore[arg-type]


def up(x: float = 0.5) -> Walker:
    return Walker([(x, 0.75), (x, 0.35)], [2.0], [0.5, 0.5])


def test_to_the_right_is_in_and_to_the_left_is_out() -> None:
    assert watch(down(), lines={"gate": GATE}).kinds() == ["start", "in", "end"]
    assert watch(up(), lines={"gate": GATE}).kinds() == ["start", "out", "end"]


def test_a_line_the_other_way_round_turns_in_and_out_around() -> None:
    gate = line(GATE.to, GATE.start)
    assert watch(down(), lines={"gate": gate}).kinds("cross") == ["out"]


@pytest.mark.parametrize("x", [0.1, 0.9])
def test_passing_beside_a_line_is_no_crossing(x: float) -> None:
    assert watch(down(x), lines={"gate": GATE}).kinds() == ["start", "end"]


def test_going_around_the_end_of_a_line_is_coming_back() -> None:
    around = [(0.5, 0.35), (0.5, 0.75), (0.95, 0.75), (0.95, 0.35), (0.5, 0.35), (0.5, 0.75)]
    walker = Walker(around, [2.0] * 5, [0.5] * 6)
    assert watch(walker, lines={"gate": GATE}).kinds("cross") == ["in", "in"]


def test_coming_back_counts_out() -> None:
    walker = Walker([(0.5, 0.35), (0.5, 0.75)] * 2, [2.0] * 3, [0.5] * 4)
    assert watch(walker, lines={"gate": GATE}).kinds("cross") == ["in", "out", "in"]


@pytest.mark.parametrize("fps", [5.0, 25.0, 60.0])
@pytest.mark.parametrize("goes_on", [True, False])
def test_trembling_on_the_line_counts_at_most_once(fps: float, goes_on: bool) -> None:
    points = [(0.5, 0.3), (0.5, 0.5), (0.5, 0.75 if goes_on else 0.3)]
    walker = Walker(points, [2.0, 2.0], [0.5, 60.0, 0.5], tremble=0.15)
    crossings = watch(walker, lines={"gate": GATE}, fps=fps).kinds("cross")
    assert crossings == (["in"] if goes_on else [])


def test_turning_back_on_the_line_is_no_crossing() -> None:
    walker = Walker([(0.5, 0.35), (0.5, 0.51), (0.5, 0.35)], [1.0, 1.0], [0.5, 0.2, 0.5])
    assert watch(walker, lines={"gate": GATE}).kinds("cross") == []


def test_standing_just_behind_the_line_counts_after_a_while() -> None:
    walker = Walker([(0.5, 0.35), (0.5, 0.51)], [1.0], [0.5, 10.0])
    seen = watch(walker, lines={"gate": GATE})
    (crossing,) = (event for event in seen.events if event.type == "cross")
    assert 1.5 < crossing.time < 7.0


def test_who_vanishes_just_behind_the_line_has_crossed() -> None:
    walker = Walker([(0.5, 0.35), (0.5, 0.52)], [1.0], [0.5, 0.5])
    assert watch(walker, lines={"gate": GATE}).kinds() == ["start", "in", "end"]


def test_a_crossing_before_the_track_is_confirmed_counts_then_and_once() -> None:
    walker = Walker([(0.5, 0.4), (0.5, 0.6), (0.5, 0.75)], [0.15, 1.0], [0.05, 0.0, 0.5])
    seen = watch(walker, lines={"gate": GATE})
    start, crossing = seen.events[:2]
    assert seen.kinds() == ["start", "in", "end"]
    assert crossing.time < start.time
    assert (crossing.label, crossing.track_id) == ("person", start.track_id)


def test_who_is_never_confirmed_is_never_counted() -> None:
    walker = Walker([(0.5, 0.4), (0.5, 0.6)], [0.2], [0.0, 0.05])
    assert watch(walker, lines={"gate": GATE}, zones={"door": DOOR}).events == []


@pytest.mark.parametrize("fps", [5.0, 25.0])
def test_a_crossing_that_nobody_saw_counts(fps: float) -> None:
    def hidden(time: float) -> Sequence[int]:
        return (1,) if 0.55 < time < 2.35 else ()

    seen = watch(down(), lines={"gate": GATE}, fps=fps, hidden=hidden)
    assert seen.kinds("cross") == ["in"]


def test_an_anchor_is_the_point_that_crosses() -> None:
    """Its feet go from 0.55 to 0.68, below the line; its centre, 0.1 higher, crosses it."""
    walker = Walker([(0.5, 0.55), (0.5, 0.68)], [1.0], [0.5, 0.5])
    lines = {"feet": GATE, "middle": line(GATE.start, GATE.to, anchor="centre")}
    events = watch(walker, lines=lines).events
    assert [event.line for event in events if event.type == "cross"] == ["middle"]


def test_labels_select_who_is_counted() -> None:
    people = DOOR.model_copy(update={"labels": ("person",)})
    cars = line(GATE.start, GATE.to, labels=("car",))
    seen = watch(down(), down(0.6, class_id=1), zones={"door": people}, lines={"gate": cars})
    assert seen.book.crossings == {("gate", "in", "car"): 1, ("gate", "out", "car"): 0}
    assert seen.book.entries == {("door", "person"): 1}
    assert seen.book.started == {"person": 1, "car": 1}


def test_places_without_labels_count_all() -> None:
    walkers = (down(), down(0.6, class_id=1))
    book = watch(*walkers, zones={"door": DOOR}, lines={"gate": GATE}).book
    assert book.crossings == {("gate", "in", "all"): 2, ("gate", "out", "all"): 0}
    assert book.exits == {("door", "all"): 2}


def test_a_visit_is_entered_left_and_measured() -> None:
    walker = Walker([(0.1, 0.5), (0.5, 0.5), (0.9, 0.5)], [2.0, 2.0], [0.5, 6.0, 0.5])
    seen = watch(walker, zones={"door": DOOR})
    assert seen.kinds() == ["start", "enter", "leave", "end"]
    leave, end = (event for event in seen.events if event.type in ("leave", "end"))
    assert leave.dwell == pytest.approx(8.0, abs=0.1)
    assert end.zones == {"door": leave.dwell}
    assert seen.book.dwells["door"].buckets == (0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)


def test_who_appears_inside_enters_and_who_vanishes_inside_leaves() -> None:
    seen = watch(Walker([(0.5, 0.5)], [], [3.0]), zones={"door": DOOR})
    assert seen.kinds() == ["start", "enter", "leave", "end"]
    (leave,) = (event for event in seen.events if event.type == "leave")
    assert leave.dwell == pytest.approx(3.0, abs=0.1)


def test_leaving_through_a_corner_is_leaving() -> None:
    walker = Walker([(0.5, 0.5), (0.75, 0.875)], [2.0], [1.0, 1.0])
    assert watch(walker, zones={"door": DOOR}).kinds("enter", "leave") == ["enter", "leave"]


def test_trembling_on_the_edge_enters_at_most_once() -> None:
    walker = Walker([(0.5, 0.5), (0.7, 0.5)], [2.0], [1.0, 60.0], tremble=0.15)
    assert watch(walker, zones={"door": DOOR}).kinds("enter", "leave") == ["enter", "leave"]


@pytest.mark.parametrize(("waits", "kinds"), [(2.0, ["enter", "leave"]), (0.5, [])])
def test_short_visits_do_not_count_where_the_zone_says_so(waits: float, kinds: list[str]) -> None:
    walker = Walker([(0.2, 0.5), (0.5, 0.5), (0.8, 0.5)], [0.5, 0.5], [1.0, waits, 1.0])
    zone = DOOR.model_copy(update={"min_dwell": 2.0})
    assert watch(walker, zones={"door": zone}).kinds("enter", "leave") == kinds


def test_an_entry_counts_when_the_visit_has_lasted_long_enough() -> None:
    zone = DOOR.model_copy(update={"min_dwell": 2.0})
    seen = watch(Walker([(0.5, 0.5)], [], [9.0]), zones={"door": zone})
    (enter,) = (event for event in seen.events if event.type == "enter")
    assert enter.time == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("feet", [0.99, 1.0, 1.05])
def test_the_border_of_the_picture_is_no_edge_of_a_zone(feet: float) -> None:
    """Feet below the picture are in a zone that reaches down to it, and never on its edge."""
    zone = ZoneConfig(polygon=((0.2, 0.6), (0.8, 0.6), (0.8, 1.0), (0.2, 1.0)))
    walker = Walker([(0.5, feet)], [], [3.0], tremble=0.1)
    assert watch(walker, zones={"door": zone}).kinds("enter", "leave") == ["enter", "leave"]


def test_a_zone_of_the_whole_picture_holds_everybody() -> None:
    zone = ZoneConfig(polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
    walker = Walker([(0.0, 0.5), (1.0, 1.0)], [3.0], [0.5, 0.5])
    assert watch(walker, zones={"all": zone}).kinds("enter", "leave") == ["enter", "leave"]


def test_a_track_updates_once_per_second() -> None:
    seen = watch(Walker([(0.5, 0.5)], [], [5.0]))
    updates = [event.time for event in seen.events if event.type == "update"]
    assert len(updates) == 4
    assert all(after - before >= 1.0 for before, after in pairwise(updates))


def test_the_end_sums_up() -> None:
    seen = watch(down(), zones={"door": DOOR}, lines={"gate": GATE, "other": GATE})
    start, end = seen.events[0], seen.events[-1]
    assert end.type == "end"
    assert end.first == WALL_TIME
    assert end.time == pytest.approx(3.0)
    assert end.crossings == (("gate", "in"), ("other", "in"))
    assert {event.track_id for event in seen.events} == {start.track_id}
    assert start.track_id[14] == "7"


def test_a_zone_that_changes_is_left_and_entered_again() -> None:
    journeys = Journeys({"door": DOOR, "same": DOOR}, {}, TRACK, LABELS.__getitem__)
    ledger = TrackLedger({"door": DOOR, "same": DOOR}, {}, {})
    perfect, walker = PerfectTracker(), Walker([(0.5, 0.5)], [], [9.0])

    def see(begin: float, end: float) -> list[tuple[str, str | None]]:
        kinds: list[tuple[str, str | None]] = []
        for time in np.arange(begin, end, 0.1).tolist():
            events = journeys.see(moment(time), perfect.update(time, found([walker], time)))
            ledger.post(events)
            kinds += [(event.type, event.zone) for event in events if event.zone]
        return kinds

    assert see(0.0, 1.0) == [("enter", "door"), ("enter", "same")]
    larger = ZoneConfig(polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
    zones = {"door": larger, "same": DOOR}
    events = journeys.replace_places(zones, {})
    ledger.post(events)
    ledger.replace_places(zones, {})
    assert [(event.type, event.zone) for event in events] == [("leave", "door")]
    assert see(1.0, 2.0) == [("enter", "door")]
    book = ledger.read()
    assert book.balanced
    assert book.entries == {("door", "all"): 2, ("same", "all"): 1}


def test_places_that_are_not_looked_at_would_have_changed_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(5)

    def stroller() -> Walker:
        points = [tuple(point) for point in random.uniform(0.1, 0.9, (4, 2)).tolist()]
        size = tuple((random.uniform(0.5, 2.0) * np.array([0.06, 0.2])).tolist())
        waits = random.uniform(0, 1, 4).tolist()
        return Walker(points, random.uniform(0.5, 4, 3).tolist(), waits, size, tremble=0.3)

    strollers = [stroller() for _ in range(12)]
    zones = {
        "door": DOOR,
        "head": DOOR.model_copy(update={"anchor": "centre", "min_dwell": 0.5}),
        "car": DOOR.model_copy(update={"labels": ("car",)}),
    }
    lines = {"gate": GATE, "head": line((0.5, 0.9), (0.4, 0.1), anchor="centre")}

    def happened(fps: float) -> list[TrackEvent]:
        seen = watch(*strollers, zones=zones, lines=lines, fps=fps, exact=False)
        return [replace(event, track_id="", tracker_id=0) for event in seen.events]

    often = [happened(fps) for fps in (5.0, 25.0)]
    assert {event.type for event in often[0]} >= {"start", "enter", "leave", "cross", "end"}
    monkeypatch.setattr(journeys_module._Around, "has", lambda *_: False)
    monkeypatch.setattr(journeys_module._Stay, "remains", lambda *_: False)
    assert [happened(fps) for fps in (5.0, 25.0)] == often


# Laws: scenes whose counts are known from the way they were made.

FILTERED = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
"""Of paths drawn at random, most come too near to a line's end to say whether they cross it."""

coordinates = st.floats(0.1, 0.9)
points = st.tuples(coordinates, coordinates)


def depth(at: Point, gate: LineConfig, size: Point) -> float:
    """Return the distance from the line through a gate, in box sizes (as in the docs)."""
    (x, y), (x1, y1), (x2, y2) = at, gate.start, gate.to
    across = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
    return across / math.hypot((x2 - x1) * size[1], (y2 - y1) * size[0])


def meeting(one: Point, two: Point, gate: LineConfig) -> float:
    """Return where the way from one point to another meets the line: 0 at its start, 1 at its end.

    Solved as linear equations, which the code does not.
    """
    way = np.subtract(two, one)
    along = np.subtract(gate.to, gate.start)
    share: float = np.linalg.solve(np.stack((way, -along), axis=1), np.subtract(gate.start, one))[1]
    return share


@st.composite
def crossings(draw: st.DrawFn) -> tuple[LineConfig, list[Walker], list[str]]:
    """Return a line, walkers one after the other, and the ways in which they cross it."""
    start, to = draw(points), draw(points)
    assume(math.dist(start, to) > 0.2)
    gate = line(start, to)
    walkers, expected = [], []
    begins = 0.0
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.sampled_from([(0.06, 0.2), (0.2, 0.1), (0.03, 0.03)]))
        ways = draw(st.lists(points, min_size=2, max_size=6))
        for at in ways:
            assume(abs(depth(at, gate, size)) > 0.5)
        for one, two in pairwise(ways):
            before, after = depth(one, gate, size), depth(two, gate, size)
            if (before > 0) != (after > 0):
                share = meeting(one, two, gate)
                assume(min(abs(share), abs(1 - share)) > 0.2)  # not near its ends
                if 0 < share < 1:
                    expected.append("in" if after > 0 else "out")
        legs = draw(st.lists(st.floats(0.1, 1.5), min_size=len(ways) - 1, max_size=len(ways) - 1))
        walker = Walker(ways, legs, [0.8] * len(ways), size, begins)
        walkers.append(walker)
        begins = walker.ends + 2 * TRACK.max_gap
    return gate, walkers, expected


@given(crossings(), st.sampled_from([5.0, 8.3, 25.0, 60.0]), st.booleans())
@settings(FILTERED, max_examples=40)
def test_every_crossing_counts_exactly_once(
    scene: tuple[LineConfig, list[Walker], list[str]], fps: float, dropped: bool
) -> None:
    """However fast somebody walks, and even if no frame shows him while he does."""
    gate, walkers, expected = scene

    def hidden(time: float) -> Sequence[int]:
        return [n for n, walker in enumerate(walkers, 1) if dropped and walker.walks(time)]

    seen = watch(*walkers, lines={"gate": gate}, fps=fps, hidden=hidden)
    assert seen.kinds("cross") == expected


@given(crossings(), st.sampled_from([5.0, 8.3, 25.0]), st.integers(0, 3))
@settings(FILTERED, max_examples=20)
def test_every_crossing_of_a_found_track_counts_exactly_once(
    scene: tuple[LineConfig, list[Walker], list[str]], fps: float, dropped: int
) -> None:
    """With the ids of the tracker, of walkers at up to a box per second, in 3 of 4 frames."""
    gate, walkers, expected = scene
    begins = 0.0
    for number, walker in enumerate(walkers):
        walkers[number] = slow = walker.slowed(1.0, begins)
        begins = slow.ends + 2 * TRACK.max_gap

    def hidden(time: float) -> Sequence[int]:
        return range(1, len(walkers) + 1) if round(time * fps) % 4 == 3 - dropped else ()

    seen = watch(*walkers, lines={"gate": gate}, fps=fps, hidden=hidden, exact=False)
    assert seen.kinds("cross") == expected


@st.composite
def visits(draw: st.DrawFn) -> tuple[ZoneConfig, Walker, int]:
    """Return a convex zone, a walker, and how often he is in it."""
    middle = np.array(draw(st.tuples(st.floats(0.4, 0.6), st.floats(0.4, 0.6))))
    count = draw(st.integers(3, 7))
    turn, radius = draw(st.floats(0, 6.28)), draw(st.floats(0.2, 0.35))
    angles = turn + np.arange(count) * 2 * np.pi / count
    corners = middle + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    zone = ZoneConfig(polygon=tuple((x, y) for x, y in corners.tolist()))
    size = draw(st.sampled_from([(0.06, 0.1), (0.04, 0.04)]))
    ways = draw(st.lists(points, min_size=2, max_size=6))
    path = [ways[0]]
    for one, two in pairwise(ways):
        path += [tuple(np.add(one, share * np.subtract(two, one))) for share in FINE]
    depths = [signed_depth(at, corners, size) for at in path]
    inside = [depths[0] > 0]
    for number, value in enumerate(depths[1:], 1):
        on_way = number % len(FINE) != 0
        assume(on_way or abs(value) > 0.5)
        inside.append(value > 0)
    deepest: list[float] = []  # of each visit
    for number, is_inside in enumerate(inside):
        if is_inside and (not number or not inside[number - 1]):
            deepest.append(0.0)
        if is_inside:
            deepest[-1] = max(deepest[-1], depths[number])
    assume(abs(depths[0]) > 0.5)
    assume(all(value > 0.5 for value in deepest))  # nobody only brushes against it
    legs = draw(st.lists(st.floats(0.3, 1.5), min_size=len(ways) - 1, max_size=len(ways) - 1))
    return zone, Walker(ways, legs, [0.8] * len(ways), size), len(deepest)


FINE = tuple(np.linspace(0, 1, 101)[1:].tolist())


def signed_depth(at: Point, corners: np.ndarray, size: Point) -> float:
    """Return the depth in a convex polygon, positive inside: the distance from its nearest side."""
    scaled, point = corners / size, np.divide(at, size)
    distances = []
    for one, two in pairwise([*scaled, scaled[0]]):
        along = np.subtract(two, one)
        share = np.clip(np.dot(point - one, along) / np.dot(along, along), 0, 1)
        distances.append(math.dist(point, one + share * along))
    lines = [
        LineConfig.model_validate({"from": tuple(a), "to": tuple(b)})
        for a, b in pairwise([*corners.tolist(), corners[0].tolist()])
    ]
    inside = all(depth(at, each, size) > 0 for each in lines)
    return min(distances) if inside else -min(distances)


@given(visits(), st.sampled_from([5.0, 25.0, 60.0]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_every_visit_counts_exactly_once(
    scene: tuple[ZoneConfig, Walker, int], fps: float, dropped: bool
) -> None:
    """Also a visit on the way from one place to another, of which no frame shows anything."""
    zone, walker, expected = scene

    def hidden(time: float) -> Sequence[int]:
        return (1,) if dropped and walker.walks(time) else ()

    seen = watch(walker, zones={"door": zone}, fps=fps, hidden=hidden)
    assert seen.kinds("enter", "leave") == ["enter", "leave"] * expected

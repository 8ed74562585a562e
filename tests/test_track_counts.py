"""The ledger of tracks: what it counts under which label, and that its sums always hold."""

from typing import Any

import pytest

from centernetd.config import LineConfig, ZoneConfig
from centernetd.flow import TrackEvent
from centernetd.track.counts import DWELLS, Dwells, TrackLedger

DOOR = ZoneConfig(polygon=((0, 0), (1, 0), (1, 1)))
GATE = LineConfig.model_validate({"from": (0.0, 0.5), "to": (1.0, 0.5)})
ALL_LABELS = {"person": "person", "car": "car", "kite": "other", "fork": "other"}


def event(kind: Any, label: str = "person", **details: Any) -> TrackEvent:
    return TrackEvent(
        kind, "a", 1, label, 0.9, 0.0, 0.0, (0.0, 0.0, 1.0, 1.0), (480, 640), **details
    )


def ledger(**labels: tuple[str, ...]) -> TrackLedger:
    """Return a ledger of one zone and one line that count these labels."""
    zones = {"door": DOOR.model_copy(update={"labels": labels.get("door", ())})}
    lines = {"gate": GATE.model_copy(update={"labels": labels.get("gate", ())})}
    return TrackLedger(zones, lines, ALL_LABELS)


def test_everything_is_there_at_nought() -> None:
    book = ledger(gate=("person", "car")).read()
    assert book.started == book.ended == book.live == {"person": 0, "car": 0, "other": 0}
    assert book.entries == book.exits == book.inside == {("door", "all"): 0}
    assert set(book.crossings) == {
        ("gate", way, label) for way in ("in", "out") for label in ("person", "car")
    }
    assert (book.objects, book.crossed) == ({"door": 0}, {"gate": (0, 0)})


def test_a_receipt_says_where_everybody_is() -> None:
    books = ledger()
    books.post([event("start"), event("start"), event("start", "kite"), event("end")])
    books.post([event("enter", zone="door"), event("enter", zone="door")])
    books.post([event("leave", zone="door", dwell=2.0), event("update")])
    books.post([event("cross", line="gate", direction=way) for way in ("in", "in", "out")])
    book = books.read()
    assert book.balanced
    assert book.receipt() == (
        "3 tracks = 1 ended + 2 live; 2 entries = 1 exits + 1 inside; 2 in, 1 out"
    )
    assert book.live == {"person": 1, "car": 0, "other": 1}
    assert (book.objects, book.crossed) == ({"door": 1}, {"gate": (2, 1)})


def test_a_receipt_without_places_is_about_tracks() -> None:
    assert TrackLedger({}, {}, {}).read().receipt() == "0 tracks = 0 ended + 0 live"


@pytest.mark.parametrize(
    "impossible", [event("end"), event("leave", zone="door", dwell=1.0), event("end", "kite")]
)
def test_nobody_leaves_who_did_not_come(impossible: TrackEvent) -> None:
    with pytest.raises(RuntimeError, match="could leave"):
        ledger().post([impossible])


def test_a_snapshot_does_not_change() -> None:
    books = ledger()
    before = books.read()
    books.post([event("start"), event("cross", line="gate", direction="in")])
    assert not sum(before.started.values()) + sum(before.crossings.values())


def test_other_places_do_not_touch_what_remains() -> None:
    books = ledger()
    books.post([event("cross", line="gate", direction="in"), event("enter", zone="door")])
    books.replace_places({"door": DOOR, "hall": DOOR}, {})
    book = books.read()
    assert book.entries == {("door", "all"): 1, ("hall", "all"): 0}
    assert (book.crossings, list(book.dwells)) == ({}, ["door", "hall"])


def test_a_receipt_has_the_counts_of_places_that_were_removed() -> None:
    books = ledger(door=("person",))
    books.post([event("enter", zone="door"), event("leave", zone="door", dwell=1.0)])
    books.post([event("cross", line="gate", direction=way) for way in ("in", "in", "out")])
    books.replace_places({"hall": DOOR}, {"exit": GATE})
    books.post([event("enter", zone="hall"), event("cross", line="exit", direction="in")])
    tracks = "0 tracks = 0 ended + 0 live"
    assert books.read().receipt() == (f"{tracks}; 2 entries = 1 exits + 1 inside; 3 in, 1 out")
    assert books.read().balanced
    books.post([event("leave", zone="hall", dwell=1.0)])
    books.replace_places({}, {})
    books.replace_places({}, {})
    book = books.read()
    assert book.receipt() == f"{tracks}; 2 entries = 2 exits + 0 inside; 3 in, 1 out"
    assert book.balanced
    assert (book.entries, book.crossings, book.dwells) == ({}, {}, {})


def test_stays_are_counted_up_to_and_including_each_bound() -> None:
    dwells = Dwells()
    for seconds in (0.0, DWELLS[0], DWELLS[0] + 0.1, DWELLS[-1], DWELLS[-1] + 1):
        dwells = dwells.with_stay(seconds)
    assert dwells.buckets == (2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1)
    assert dwells.seconds == pytest.approx(7203.1)

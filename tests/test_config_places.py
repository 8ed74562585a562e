"""Zones and lines in the configuration: what is read, and what is refused with its line and key."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from centernetd.config import StreamConfig, load
from centernetd.config.config import difference
from centernetd.config.values import Polygon
from centernetd.errors import ConfigError
from centernetd.inference.filter import filters_of
from tests.manifests import plain

POLYGON = TypeAdapter(Polygon)
SQUARE = "[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.1, 0.5]]"
Point = tuple[float, float]


def stream(tmp_path: Path, *lines: str) -> StreamConfig:
    """Return a stream with more keys; the first of them is on line 5 of the file."""
    path = tmp_path / "config.yaml"
    begin = ("version: 1", "streams:", "  a:", "    source: rtsp://192.0.2.1/")
    path.write_text("\n".join((*begin, *(f"    {line}" for line in lines))))
    return load(path).streams["a"]


def refusal(tmp_path: Path, *lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        stream(tmp_path, *lines)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_zones_and_lines_are_read(tmp_path: Path) -> None:
    config = stream(
        tmp_path,
        "track: {max_gap: 3s}",
        f"zones: {{door: {{polygon: {SQUARE}, labels: [face], min_dwell: 2s, anchor: centre}}}}",
        "lines: {gate: {from: [0, 0.6], to: [1, 0.6]}}",
    )
    door, gate = config.zones["door"], config.lines["gate"]
    assert (config.track.max_gap, config.track.confirm_after) == (3.0, 0.3)
    assert door.polygon == ((0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.1, 0.5))
    assert (door.labels, door.min_dwell, door.anchor) == (("face",), 2.0, "centre")
    assert (gate.start, gate.to, gate.labels, gate.anchor) == ((0, 0.6), (1, 0.6), (), "bottom")


@pytest.mark.parametrize(
    ("line", "tracks"),
    [
        ("detect: {}", False),
        ("events: {tracks: auto}", False),
        ("events: {tracks: never}", False),
        ("events: {tracks: always}", True),
        (f"zones: {{door: {{polygon: {SQUARE}}}}}", True),
        ("lines: {gate: {from: [0, 0], to: [1, 1]}}", True),
    ],
)
def test_objects_are_followed_where_somebody_asks_for_it(
    tmp_path: Path, line: str, tracks: bool
) -> None:
    assert stream(tmp_path, line).tracks is tracks


def test_lines_are_counted_without_events(tmp_path: Path) -> None:
    lines = ("events: {tracks: never}", "lines: {gate: {from: [0, 0], to: [1, 1]}}")
    assert stream(tmp_path, *lines).tracks


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("zones: {Door: {}}", "zones.Door: a zone's name is 1 to 63 of a-z, 0-9, _ and -"),
        ("lines: {'': {}}", "lines.nothing: a line's name is 1 to 63 of a-z, 0-9, _ and -"),
        ("zones: {door: {}}", "zones.door.polygon: is missing"),
        ("lines: {gate: {to: [0, 0]}}", "lines.gate.from: is missing"),
        ("lines: {gate: {start: [0, 0]}}", "lines.gate.start: no such key; there are anchor, from"),
        (
            "lines: {gate: {from: [0.2, 0.3], to: [0.2, 0.3]}}",
            "lines.gate: from and to are the same point: a line needs two",
        ),
        (
            "lines: {gate: {from: [0.2, 1.3], to: [0.2, 0.3]}}",
            "lines.gate.from[1]: must be less than or equal to 1, is 1.3",
        ),
        (
            "zones: {door: {polygon: [[0, 0], [1, -0.1], [1, 1]]}}",
            "zones.door.polygon[1][1]: must be greater than or equal to 0, is -0.1",
        ),
        (
            "zones: {door: {polygon: [[0, 0], [1, 1]]}}",
            "zones.door.polygon: has 2 points: a polygon has 3 to 100",
        ),
        (
            "zones: {door: {polygon: [[0, 0], [1, 0], [0, 1], [1, 1]]}}",
            "zones.door.polygon: crosses itself: the side from [1.0, 0.0] to [0.0, 1.0] meets the "
            "one from [1.0, 1.0] to [0.0, 0.0]",
        ),
        (
            "zones: {door: {polygon: [[0, 0], [1, 0], [0.5, 0.0]]}}",
            "zones.door.polygon: turns back on itself at [1.0, 0.0]",
        ),
        (
            "zones: {door: {polygon: [[0, 0], [1, 0], [1, 1], [0, 0]]}}",
            "zones.door.polygon: repeats the point [0.0, 0.0]; the last point joins the first",
        ),
        (
            f"zones: {{door: {{polygon: {SQUARE}, anchor: top}}}}",
            "zones.door.anchor: 'top' is not one of 'bottom' or 'centre'",
        ),
        ("track: {max_gap: 2}", "track.max_gap: '2' needs a unit, as in 500ms, 10s, 5min, 14d"),
        ("record: {draw: [boxes, hats]}", "record.draw: 'hats' is not one of boxes, ids, zones"),
        ("record: {draw: all}", "record.draw: must be a list of boxes, ids, zones, clock, not"),
        ("events: {tracks: sometimes}", "events.tracks: 'sometimes' is not one of 'auto', "),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    assert refusal(tmp_path, line).startswith(f"config.yaml:5: streams.a.{sentence}")


def test_each_key_is_reported_with_its_own_line(tmp_path: Path) -> None:
    lines = ("zones:", "  door:", "    polygon:", "    - [0, 0]", "    - [1, 2]", "    - [0, 1]")
    assert refusal(tmp_path, *lines).startswith("config.yaml:9: streams.a.zones.door.polygon[1][1]")


@pytest.mark.parametrize("kind", ["zones", "lines"])
def test_places_belong_to_a_stream(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"version: 1\ndefaults: {{{kind}: {{}}}}\nstreams: {{a: {{source: x.mp4}}}}")
    with pytest.raises(ConfigError, match=f"config.yaml:2: defaults.{kind}: no such key"):
        load(path)


def test_a_label_that_is_never_detected_can_not_be_counted(tmp_path: Path) -> None:
    lines = ("detect: {labels: [cat]}", "lines: {gate: {from: [0, 0], to: [1, 1], labels: [dog]}}")
    assert refusal(tmp_path, *lines) == (
        "config.yaml:6: streams.a.lines.gate.labels: 'dog' is not one of detect.labels, so it is "
        "never counted"
    )


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f"zones: {{door: {{polygon: {SQUARE}, labels: [dog]}}}}", "zones.door.labels"),
        ("lines: {gate: {from: [0, 0], to: [1, 1], labels: [dog]}}", "lines.gate.labels"),
    ],
)
def test_a_label_that_the_model_lacks_is_refused(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"streams.a.{key}: the model has no label 'dog'"):
        filters_of(stream(tmp_path, line), {"default": plain()})


def test_another_place_is_a_change_of_its_stream(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = "version: 1\nstreams:\n  a: {source: x.mp4}\n  b: {source: y.mp4%s}\n"
    path.write_text(text % "")
    before = load(path)
    path.write_text(text % ", lines: {gate: {from: [0, 0], to: [1, 1]}}")
    assert difference(before, load(path)).changed == ("b",)


@st.composite
def stars(draw: st.DrawFn) -> list[Point]:
    """Return the corners of a polygon around the middle of the picture, one per direction."""
    count = draw(st.integers(3, 12))
    radii = draw(st.lists(st.floats(0.1, 0.5), min_size=count, max_size=count))
    turns = [2 * math.pi * n / count for n in range(count)]
    return [
        (0.5 + 0.99 * r * math.cos(t), 0.5 + 0.99 * r * math.sin(t))
        for r, t in zip(radii, turns, strict=True)
    ]


@given(stars(), st.integers(0, 11), st.booleans())
def test_a_polygon_may_begin_anywhere_and_turn_either_way(
    corners: list[Point], first: int, backwards: bool
) -> None:
    turned = [*corners[first % len(corners) :], *corners[: first % len(corners)]]
    written = tuple(reversed(turned) if backwards else turned)
    assert POLYGON.validate_python(written) == written


@given(stars().filter(lambda corners: len(corners) > 3), st.data())
def test_two_corners_exchanged_cross(corners: list[Point], data: st.DataObject) -> None:
    """Two neighbours exchanged on a convex polygon: the sides before and after them then cross."""
    count = len(corners)
    turns = [2 * math.pi * n / count for n in range(count)]
    convex = [(0.5 + 0.4 * math.cos(t), 0.5 + 0.4 * math.sin(t)) for t in turns]
    place = data.draw(st.integers(0, count - 2))
    convex[place], convex[place + 1] = convex[place + 1], convex[place]
    with pytest.raises(ValidationError, match="crosses itself"):
        POLYGON.validate_python(tuple(convex))

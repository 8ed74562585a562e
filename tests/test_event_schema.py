"""The schema of events: it fits what is written and shown, and refuses what was not promised."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.event_lines import VALIDATOR, read_events

ROOT = Path(__file__).parents[1]
ID = "018bcfe5-6800-7def-9abc-def012345678"
FRAME, _ = read_events(ROOT / "tests/contract/events.jsonl")
HEADER = {key: value for key, value in FRAME.items() if key not in ("frame", "detections")}
TRACK = {"track_id": ID, "label": "person", "score": 0.9, "box": [1, 2, 3, 4]}
MORE: dict[str, dict[str, Any]] = {
    "start": {},
    "update": {},
    "enter": {"zone": "door"},
    "leave": {"zone": "door", "dwell": 1.5},
    "cross": {"line": "gate", "direction": "in"},
    "end": {
        "first": HEADER["time"],
        "last": HEADER["time"],
        "crossings": [{"line": "gate", "direction": "out"}],
        "zones": {"door": 1.5},
    },
}


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("kind", MORE)
def test_what_each_type_of_a_track_must_have(kind: str) -> None:
    event = {**HEADER, "type": kind, **TRACK, **MORE[kind]}
    VALIDATOR.validate({**event, "added": "later"})
    for key in event:
        with pytest.raises(ValidationError):
            VALIDATOR.validate({k: v for k, v in event.items() if k != key})


def changes(value: Any) -> Iterator[Any]:
    """Yield this part of a frame's line with one thing wrong, again and again."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in ("track_id", "keypoints"):
                yield {k: v for k, v in value.items() if k != key}
            for changed in changes(part):
                yield {**value, key: changed}
    elif isinstance(value, list):
        for number, part in enumerate(value):
            for changed in changes(part):
                yield [*value[:number], changed, *value[number + 1 :]]
    else:
        yield None
        if isinstance(value, str):
            yield 3
        else:
            yield str(value)


def test_whatever_is_missing_or_of_another_type_is_refused() -> None:
    wrong = list(changes(FRAME))
    assert len(wrong) > 50
    for event in wrong:
        assert not VALIDATOR.is_valid(event), event


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 1),
        ("type", "Frame"),
        ("id", ID.upper()),
        ("id", ID.replace("-7", "-4")),
        ("node", "Box 7"),
        ("time", "2023-11-14T22:00:01Z"),
        ("time", "2023-11-14T22:00:01.042+00:00"),
        ("time_source", "camera"),
        ("size", [64]),
        ("size", [64, 48, 3]),
        ("size", [0, 48]),
    ],
)
def test_values_that_were_not_promised_are_refused(key: str, value: object) -> None:
    assert not VALIDATOR.is_valid({**FRAME, key: value})


def test_examples_in_the_docs_are_valid() -> None:
    page = (ROOT / "docs/events.md").read_text()
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.S)]
    assert examples
    for event in examples:
        VALIDATOR.validate(event)


def properties(schema: Any) -> set[str]:
    """Return the names of all fields in a schema."""
    if isinstance(schema, list):
        return set().union(*map(properties, schema))
    if not isinstance(schema, dict):
        return set()
    nested = set().union(*map(properties, schema.values()))
    return nested | set(schema.get("properties", ()))


def test_every_field_has_the_version_that_introduced_it() -> None:
    page = (ROOT / "docs/compatibility.md").read_text()
    table = page.partition("## Events")[2].partition("## ")[0]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in row.split("`")}
    schema = deepcopy(VALIDATOR.schema)
    assert properties(schema) <= listed
    for values in (schema["properties"]["type"], schema["properties"]["time_source"]):
        assert set(values["enum"]) <= listed
    for event in read_events(ROOT / "tests/contract/events.jsonl"):
        assert {*event} <= properties(schema)
        assert all({*found} <= properties(schema) for found in event["detections"])

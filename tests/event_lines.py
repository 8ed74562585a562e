"""Reading events files as a consumer does that trusts the schema."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).parents[1] / "daemon/centernetd/sink/events.schema.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text()))


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file, in which every line is valid, and every id a greater one."""
    events: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        VALIDATOR.validate(event)
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))
    return events

"""Objects that walk through a clip, followed and counted from end to end."""

from pathlib import Path
from typing import Any

import pytest

from tests import clips, models
from tests.event_lines import read_events
from tests.integration.process import Counts, Finished, configure, run

SIZE = (128, 128)
FRAMES = 120  # at 25 frames per second
SIDE = 20
LINES = {"gate": {"from": [0.5, 1.0], "to": [0.5, 0.0]}}  # upwards: in is to the right
ZONES = {
    "hall": {"polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]},
    "corner": {"polygon": [[0.7, 0], [1, 0], [1, 0.4], [0.7, 0.4]], "labels": ["class_0"]},
}


def at(number: int) -> clips.Image:
    """One square goes to the right, above, until it is in the corner; another one to the left."""
    share = min(1.0, max(0.0, (number - 20) / 80))
    right, left = round(6 + 100 * share), round(102 - 80 * share)
    return models.draw(
        SIZE, (0, (right, 10, right + SIDE, 10 + SIDE)), (1, (left, 80, left + SIDE, 80 + SIDE))
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    return clips.write(path, (at(number) for number in range(FRAMES)))


@pytest.fixture(scope="module")
def walked(clip: Path, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    streams: dict[str, dict[str, Any]] = {
        "counted": {"source": str(clip), "zones": ZONES, "lines": LINES},
        "silent": {"source": str(clip), "lines": LINES, "events": {"tracks": "never"}},
        "followed": {
            "source": str(clip),
            "record": {"when": "never"},
            "events": {"frames": "never", "tracks": "always", "path": "{stream}.jsonl"},
        },
        "plain": {"source": str(clip)},
    }
    return run(configure(tmp_path_factory.mktemp("walked"), squares, streams))


def test_counts_are_exact(walked: Finished) -> None:
    assert walked.code == 0, walked.stderr
    assert walked.counts == {
        "counted": Counts(2, 2, 0, 2, 2, 0, 1, 1),
        "silent": Counts(2, 2, 0, 0, 0, 0, 1, 1),
        "followed": Counts(2, 2, 0, 0, 0, 0, 0, 0),
    }
    assert all(receipt.captured == FRAMES for receipt in walked.receipts.values())


def test_events_show_what_happened_to_whom(walked: Finished) -> None:
    events = read_events(walked.state / "counted.jsonl")
    frames = [event for event in events if event["type"] == "frame"]
    assert len(frames) == FRAMES
    story: dict[str, list[str]] = {"class_0": [], "class_1": []}
    for event in events:
        if event["type"] not in ("frame", "update"):
            place = event.get("zone") or event.get("line") or ""
            details = (event["type"], place, event.get("direction", ""))
            story[event["label"]].append(" ".join(filter(None, details)))
    assert story == {
        "class_0": ["start", "cross gate in", "enter corner", "leave corner", "end"],
        "class_1": ["start", "enter hall", "cross gate out", "leave hall", "end"],
    }
    ends = {event["label"]: event for event in events if event["type"] == "end"}
    assert ends["class_0"]["crossings"] == [{"line": "gate", "direction": "in"}]
    assert ends["class_1"]["zones"] == {"hall": pytest.approx(4.76, abs=0.1)}
    assert {end["recording"] for end in ends.values()} == {"counted.mp4"}
    updates = [event for event in events if event["type"] == "update"]
    assert 6 <= len(updates) <= 2 * FRAMES / 25
    names = {event["track_id"] for event in events if event["type"] == "start"}
    last = frames[-1]["detections"]
    assert {found["track_id"] for found in last} == names
    assert not any("track_id" in found for found in frames[0]["detections"]), "not yet confirmed"


def test_events_have_no_more_than_was_asked_for(walked: Finished) -> None:
    silent = read_events(walked.state / "silent.jsonl")
    assert {event["type"] for event in silent} == {"frame"}
    followed = {event["type"] for event in read_events(walked.state / "followed.jsonl")}
    assert followed == {"start", "update", "end"}
    plain = read_events(walked.state / "plain.jsonl")
    assert not any("track_id" in found for event in plain for found in event["detections"])

"""The event log: its lines, its files, and what it does when they fail."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from centernetd.config import EventsConfig
from centernetd.errors import SinkError
from centernetd.flow import DetectionClass, Detections, Filter, Scene, TrackEvent
from centernetd.sink.events import EventLog, made_from_file, members, to_json
from centernetd.sink.file import OutputFile
from centernetd.sink.stage import Outcome
from tests.event_lines import read_events
from tests.sinks import NOON, detections, file_size_limit, result, sink_context

HOURLY = "{stream}/%Y-%m-%d-%H.jsonl"
GOLDEN = Path(__file__).parent / "contract/events.jsonl"


def open_log(
    root: Path, path: str = HOURLY, frames: str = "detections", *, from_file: bool = False
) -> EventLog:
    config = EventsConfig.model_validate({"frames": frames, "path": path})
    return EventLog(sink_context(root, events=config, from_file=from_file))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_only_what_counts_is_written(tmp_path: Path) -> None:
    config = EventsConfig(path="{stream}.jsonl")
    log = EventLog(replace(sink_context(tmp_path, events=config), shows=Filter(0.4)))
    weak, strong = (detections((0, 0, 9, 9), score=score) for score in (0.39, 0.4))
    every = Detections(
        np.concatenate([strong.xyxy, weak.xyxy]),
        np.concatenate([strong.confidence, weak.confidence]),
        np.concatenate([strong.class_id, weak.class_id]),
    )
    assert log.select(result(0, found=weak)) is None
    selected = log.select(result(0, found=every))
    assert selected is not None
    log.write_batch([selected])
    log.close()
    (line,) = (tmp_path / "gate.jsonl").read_text().splitlines()
    assert [seen["score"] for seen in json.loads(line)["detections"]] == [pytest.approx(0.4)]


def test_a_line_is_what_it_was_promised_to_be(tmp_path: Path) -> None:
    """The golden file: a frame with everything, then one with nothing, of a file."""
    classes = [DetectionClass("faces", 0, "face"), DetectionClass("coco", 16, "d\xf6g")]
    found = Detections(
        xyxy=np.array([[1.23456, 2, 3.999, 40.1], [0, 0, 1, 1], [5, 6, 7, 8]], np.float32),
        confidence=np.array([0.912345, 0.5, 0.4], np.float32),
        class_id=np.array([0, 1, 0]),
        keypoints=np.array(
            [
                [[1.005, 2.3333, 0.98766], [1, 2, 1]],
                [[np.nan] * 3] * 2,
                [[9, 9, 0.5], [np.nan] * 3],
            ],
            np.float32,
        ),
        tracker_id=np.array([3, -1, 4]),
    )
    track = "018bcfe5-6800-7def-9abc-def012345678"
    scene = Scene({3: track}, detections(), (), ())
    everything = result(12, found=found, pts=480, wall_time=NOON + 1.0426)
    written = []
    for from_file, item in ((False, replace(everything, scene=scene)), (True, result(0))):
        context = sink_context(tmp_path, from_file=from_file, events=EventsConfig(path="%%.jsonl"))
        log = EventLog(replace(context, classes=classes))
        assert log.write_batch([item]) == Outcome(1)
        log.close()
        (path,) = tmp_path.glob("*.jsonl")
        written.append(path.read_text())
        path.unlink()
    made = [json.loads(line)["id"] for line in written]
    assert made == sorted({*made})
    text = "".join(written)
    for number, name in enumerate(made):
        text = text.replace(name, f"018bcfe5-6800-7000-8000-00000000000{number}")
    assert text == GOLDEN.read_text()


TRACK_ID = "018bcfe5-6800-7def-9abc-def012345678"
TRACK = TrackEvent(
    "start", TRACK_ID, 3, "face", 0.98766, 0.48, NOON + 1.0426, (1.0, 2.5, 3.337, 4.0), (48, 64)
)
ENDED = replace(
    TRACK,
    type="end",
    first=NOON - 2.5,
    crossings=(("gate", "in"),),
    zones={"door": 1.23456},
)


@pytest.mark.parametrize(
    ("event", "more"),
    [
        (TRACK, {}),
        (replace(TRACK, type="update"), {}),
        (replace(TRACK, type="enter", zone="door"), {"zone": "door"}),
        (
            replace(TRACK, type="leave", zone="door", dwell=0.0),
            {"zone": "door", "dwell": 0.0},
        ),
        (
            replace(TRACK, type="cross", line="gate", direction="out"),
            {"line": "gate", "direction": "out"},
        ),
        (
            ENDED,
            {
                "first": "2023-11-14T21:59:57.500Z",
                "last": "2023-11-14T22:00:01.042Z",
                "crossings": [{"line": "gate", "direction": "in"}],
                "zones": {"door": 1.235},
                "recording": "gate/1.mp4",
            },
        ),
    ],
    ids=lambda value: value.type if isinstance(value, TrackEvent) else "",
)
def test_a_line_about_a_track(tmp_path: Path, event: TrackEvent, more: dict[str, object]) -> None:
    config = EventsConfig(path="{stream}.jsonl", frames="never", tracks="always")
    context = sink_context(tmp_path, events=config)
    context.status.output = str(tmp_path / "gate/1.mp4")
    log = EventLog(context)
    assert log.select(result(0, found=detections((1, 2, 3, 4)))) is None
    assert log.write_batch([], [event]) == Outcome()
    log.close()
    (line,) = read_events(tmp_path / "gate.jsonl")
    header = ("schema", "id", "node", "stream", "time_source")
    assert {key: value for key, value in line.items() if key not in header} == {
        "type": event.type,
        "time": "2023-11-14T22:00:01.042Z",
        "pts": 0.48,
        "size": [64, 48],
        "track_id": TRACK_ID,
        "label": "face",
        "score": 0.9877,
        "box": [1.0, 2.5, 3.34, 4.0],
        **more,
    }


@pytest.mark.parametrize("tracks", ["auto", "never"])
def test_lines_about_tracks_are_only_written_where_they_are_asked_for(
    tmp_path: Path, tracks: str
) -> None:
    config = EventsConfig.model_validate({"path": "{stream}.jsonl", "tracks": tracks})
    log = EventLog(sink_context(tmp_path, events=config))
    log.write_batch([result(0)], [TRACK])
    log.close()
    assert [event["type"] for event in read_events(tmp_path / "gate.jsonl")] == ["frame"]


def test_the_end_of_a_track_is_not_written_into_the_hour_before(tmp_path: Path) -> None:
    config = EventsConfig(path=HOURLY, tracks="always")
    log = EventLog(sink_context(tmp_path, events=config))
    log.write_batch([result(0, wall_time=NOON + 3600)])
    log.write_batch([], [ENDED])
    log.close()
    (path,) = tmp_path.glob("gate/*")
    assert [event["type"] for event in read_events(path)] == ["frame", "end"]


@pytest.mark.parametrize("from_file", [True, False])
def test_events_show_whether_they_were_made_from_a_file(tmp_path: Path, from_file: bool) -> None:
    log = open_log(tmp_path, from_file=from_file)
    log.write_batch([result(found=detections((1, 2, 3, 4)))])
    log.close()
    (path,) = tmp_path.glob("gate/*")
    assert made_from_file(path.read_bytes()) is from_file
    assert lines(path)[0]["time_source"] == ("file" if from_file else "arrival")
    assert made_from_file(b'{"frame": 1}') is None


@pytest.mark.parametrize(("mark", "from_file"), [('"from": "file", ', True), ("", False)])
def test_events_of_the_first_schema_are_still_ours(
    tmp_path: Path, mark: str, from_file: bool
) -> None:
    old = f'{{"stream": "gate", {mark}"frame": 12, "pts": 0.48, "time": "2023-11-14T22:00:01.042Z"'
    whole = f'{old}, "detections": [{{"label": "\\"from\\": \\"file\\""}}]}}\n'.encode()
    assert made_from_file(whole) is from_file
    path = tmp_path / "gate/2023-11-14-22.jsonl"
    path.parent.mkdir()
    path.write_bytes(whole + old.encode())
    log = open_log(tmp_path)
    log.write_batch([result(13)])
    log.close()
    assert [line["frame"] for line in lines(path)] == [12, 13]


def test_without_keypoints_there_is_no_such_key(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.write_batch([result(found=detections((1, 2, 3, 4)))])
    log.close()
    (line,) = lines(tmp_path / "gate/2023-11-14-22.jsonl")
    assert line["detections"] == [
        {"model": "faces", "label": "face", "class_id": 0, "score": 0.9, "box": [1, 2, 3, 4]}
    ]


@pytest.mark.parametrize(
    ("which", "wanted"), [("detections", [False, True]), ("always", [True, True])]
)
def test_which_frames_are_wanted(tmp_path: Path, which: str, wanted: list[bool]) -> None:
    log = open_log(tmp_path, frames=which)
    frames = [result(), result(found=detections((1, 2, 3, 4)))]
    assert [log.select(frame) is not None for frame in frames] == wanted


def test_each_line_is_in_the_file_when_it_is_counted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(3):
        assert log.write_batch([result(number)]) == Outcome(1)
        assert len(lines(tmp_path / "gate/2023-11-14-22.jsonl")) == number + 1
    assert log.close() == Outcome()
    assert log.close() == Outcome()


def test_a_file_for_each_hour_continued_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for run in range(2):
        log = open_log(tmp_path)
        for seconds in (0, 1, 3599.9, 3600, 7200):
            log.write_batch([result(run, wall_time=NOON + seconds)])
        log.close()
    counts = {path.name[-8:-6]: len(lines(path)) for path in (tmp_path / "gate").iterdir()}
    assert counts == {"22": 6, "23": 2, "00": 2}
    assert not caplog.messages


def test_a_name_without_a_time_is_never_continued(tmp_path: Path) -> None:
    for number in range(3):
        log = open_log(tmp_path, path="{stream}.jsonl")
        log.write_batch([result(number)])
        log.write_batch([result(number, wall_time=NOON + 5000)])
        log.close()
    frames = {path.name: [line["frame"] for line in lines(path)] for path in tmp_path.iterdir()}
    assert frames == {"gate.jsonl": [0, 0], "gate-1.jsonl": [1, 1], "gate-2.jsonl": [2, 2]}


def test_a_full_disk_tears_no_line_and_the_same_file_is_continued(tmp_path: Path) -> None:
    log = open_log(tmp_path, path="{stream}.jsonl")
    log.write_batch([result(0)])
    reason = r"gate\.jsonl can't be written: .*allows no larger file"
    with file_size_limit(100), pytest.raises(SinkError, match=reason):
        log.write_batch([result(1)])
    log.write_batch([result(2)])
    log.close()
    assert [line["frame"] for line in lines(tmp_path / "gate.jsonl")] == [0, 2]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("rest", [b'{"st', b'{"stream": "ga' + b" " * 200_000])
def test_a_torn_line_is_cut_off_before_its_file_is_continued(tmp_path: Path, rest: bytes) -> None:
    log = open_log(tmp_path)
    log.write_batch([result(0)])
    log.close()
    (path,) = tmp_path.glob("gate/*")
    whole = path.read_bytes()
    for content, kept in ((whole + rest, [0, 1]), (rest, [1])):
        path.write_bytes(content)
        log = open_log(tmp_path)
        log.write_batch([result(1)])
        log.close()
        assert [line["frame"] for line in lines(path)] == kept


def test_a_line_that_a_failing_disk_did_not_let_cut_off_is_cut_off_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path)
    log.write_batch([result(0)])
    with monkeypatch.context() as patch:
        patch.setattr(OutputFile, "abandon", lambda file: file.close())
        with file_size_limit(400), pytest.raises(SinkError):
            log.write_batch([result(1)])
    (path,) = tmp_path.glob("gate/*")
    assert not path.read_bytes().endswith(b"\n")
    log.write_batch([result(2)])
    log.close()
    assert [line["frame"] for line in lines(path)] == [0, 2]


def test_a_file_by_somebody_else_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "gate/2023-11-14-22.jsonl"
    path.parent.mkdir()
    path.write_text("notes\nwithout an end")
    log = open_log(tmp_path)
    log.write_batch([result(0)])
    log.close()
    assert path.read_text().startswith("notes\nwithout an end")


TAKEN = "{} was deleted, moved or cut by others; events are still written"


def test_a_file_that_is_moved_away_is_not_written_to_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path)
    log.write_batch([result(0)])
    (path,) = tmp_path.glob("gate/*")
    path.rename(tmp_path / "moved")
    log.write_batch([result(1, wall_time=NOON + 1)])
    (tmp_path / "gate").rename(tmp_path / "another-disk")
    log.write_batch([result(2, wall_time=NOON + 2)])
    log.close()
    places = (tmp_path / "moved", tmp_path / "another-disk" / path.name, path)
    assert [[line["frame"] for line in lines(place)] for place in places] == [[0], [1], [2]]
    assert caplog.messages == [TAKEN.format(path)] * 2
    assert {getattr(record, "stream", None) for record in caplog.records} == {"gate"}


def test_a_folder_that_is_moved_out_of_the_root_is_not_written_to(tmp_path: Path) -> None:
    """The open file is still found at its path, by a link in the folder's place."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    log = open_log(root)
    log.write_batch([result(0)])
    (root / "gate").rename(outside)
    (root / "gate").symlink_to(outside)
    with pytest.raises(SinkError, match="it leads out of storage"):
        log.write_batch([result(1, wall_time=NOON + 1)])
    log.close()
    (path,) = outside.iterdir()
    assert [line["frame"] for line in lines(path)] == [0]


def test_a_file_that_others_truncated_is_continued_with_whole_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path)
    for number in range(3):
        log.write_batch([result(number)])
    (path,) = tmp_path.glob("gate/*")
    whole = len(path.read_bytes()) // 3
    os.truncate(path, whole + 5)
    log.write_batch([result(3, wall_time=NOON + 1.5)])
    log.close()
    assert [line["frame"] for line in lines(path)] == [0, 3]
    assert caplog.messages[0] == TAKEN.format(path)


def test_a_link_or_a_pipe_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    (root / "gate.jsonl").touch()
    log = open_log(root, path="{stream}.jsonl")
    log.write_batch([result(0)])
    (root / "gate-1.jsonl").unlink()
    (root / "gate-1.jsonl").symlink_to(outside)
    with pytest.raises(SinkError, match=r"gate-1.jsonl can't be written: it is not a regular"):
        log.write_batch([result(2, wall_time=NOON + 1.5)])
    (root / "gate-1.jsonl").unlink()
    os.mkfifo(root / "gate-1.jsonl")
    with pytest.raises(SinkError, match=r"gate-1.jsonl can't be written: it is not a regular"):
        log.write_batch([result(3, wall_time=NOON + 2.5)])
    log.close()
    assert not outside.exists()


@pytest.mark.parametrize("template", ["{stream}.jsonl", "{stream}/%Y-%m-%d-%H.jsonl"])
def test_a_file_is_never_too_large_for_a_file_system(
    tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("centernetd.sink.events.MAX_FILE_SIZE", 400)
    log = open_log(tmp_path, path=template)
    for number in range(5):
        log.write_batch([result(number, wall_time=NOON + number)])
    log.close()
    files = sorted(path for path in tmp_path.rglob("*.jsonl"))
    assert len(files) == 3
    found = [line["frame"] for path in files for line in lines(path)]
    assert len(found) == 5
    assert set(found) == set(range(5))


def test_a_folder_that_disappears_is_created_again(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.write_batch([result(0)])
    (tmp_path / "gate").rename(tmp_path / "elsewhere")
    log.write_batch([result(1, wall_time=NOON + 3600)])
    log.close()
    assert (tmp_path / "gate/2023-11-14-23.jsonl").exists()


def numbers(*shape: int) -> st.SearchStrategy[Any]:
    """Arrays of finite numbers, as models give them."""
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return arrays.arrays(np.float32, shape, elements=finite)


@given(data=st.data(), count=st.integers(0, 4), joints=st.none() | st.integers(0, 3))
def test_detections_mean_what_the_library_would_have_written(
    data: st.DataObject, count: int, joints: int | None
) -> None:
    keypoints = None if joints is None else data.draw(numbers(count, joints, 3))
    labels = data.draw(st.lists(st.text(max_size=5), min_size=1, max_size=3))
    class_id = data.draw(arrays.arrays(np.int64, count, elements=st.integers(0, len(labels) - 1)))
    found = Detections(data.draw(numbers(count, 4)), data.draw(numbers(count)), class_id, keypoints)
    expected = []
    for row, number in enumerate(class_id.tolist()):
        item: dict[str, Any] = {
            "label": labels[number],
            "class_id": number,
            "score": round(float(found.confidence[row]), 4),
            "box": [round(side, 2) for side in found.xyxy[row].tolist()],
        }
        if joints and keypoints is not None:
            item["keypoints"] = [
                [round(x, 2), round(y, 2), round(score, 4)]
                for x, y, score in keypoints[row].tolist()
            ]
        expected.append(item)
    classes = [members(label=label, class_id=number) for number, label in enumerate(labels)]
    text = to_json(found, classes)
    assert text.isascii()
    assert json.loads(text) == json.loads(json.dumps(expected))

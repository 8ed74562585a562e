"""The demo from end to end, by the real command: every frame, its time, the faces, the pixels."""

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from centernetd.config import load
from centernetd.sink.privacy import GREY
from tests.event_lines import read_events
from tests.integration.conftest import DEMO
from tests.integration.process import Finished, Receipt, run, write_config

FRAMES = 250
MEAN_CHANGE = 4  # of 255: swscale rounds down, there and back, and x264 adds its own
LEAST_HEIGHT, LEAST_VISIBLE, LEAST_IOU = 40, 0.9, 0.5
MODES = pytest.mark.parametrize("mode", ["boxes", "blurred"])

Box = Sequence[float]
Picture = NDArray[np.int16]


@pytest.fixture
def finished(mode: str, request: pytest.FixtureRequest) -> Finished:
    done: Finished = request.getfixturevalue(mode)
    return done


@pytest.fixture(scope="module")
def truth() -> list[list[Box]]:
    """The boxes that must be found, frame by frame."""
    frames = json.loads(DEMO.with_suffix(".json").read_text())["frames"]
    return [
        [
            face["box"]
            for face in faces
            if face["height"] >= LEAST_HEIGHT and face["visible"] >= LEAST_VISIBLE
        ]
        for faces in frames
    ]


def recording(finished: Finished) -> Path:
    return finished.state / "demo.mp4"


def events(finished: Finished) -> list[dict[str, Any]]:
    return read_events(finished.state / "demo.jsonl")


def found(finished: Finished) -> list[list[Box]]:
    return [[seen["box"] for seen in event["detections"]] for event in events(finished)]


def moment(timed: "av.VideoFrame | av.Packet[av.VideoStream]") -> Fraction:
    assert timed.pts is not None
    assert timed.time_base is not None
    return timed.pts * timed.time_base


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [moment(frame) for frame in container.decode(video=0)]


def pictures(path: Path, step: int) -> Iterator[Picture]:
    """Yield every ``step``-th picture as signed BGR, so that differences don't wrap."""
    with av.open(str(path)) as container:
        for frame in islice(container.decode(video=0), 0, None, step):
            yield frame.to_ndarray(format="bgr24").astype(np.int16)


def iou(one: Box, other: Box) -> float:
    overlap = [min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)]
    shared = max(overlap[0], 0.0) * max(overlap[1], 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def recall(truth: list[list[Box]], found: list[list[Box]]) -> float:
    matched = [
        any(iou(face, box) >= LEAST_IOU for box in boxes)
        for faces, boxes in zip(truth, found, strict=True)
        for face in faces
    ]
    return sum(matched) / len(matched)


def atoms(path: Path) -> list[str]:
    """Return the kinds of the file's top-level boxes (ISO/IEC 14496-12, 4.2)."""
    content, kinds, at = path.read_bytes(), [], 0
    while at < len(content):
        kinds.append(content[at + 4 : at + 8].decode("ascii"))
        at += int.from_bytes(content[at : at + 4], "big")
    assert at == len(content), "the last box is cut off"
    return kinds


@MODES
def test_every_frame_is_written_and_the_run_ends_well(finished: Finished) -> None:
    assert finished.code == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "demo: 250 captured = 250 written + 0 dropped"
    assert finished.receipts == {"demo": Receipt(FRAMES, FRAMES, 0, 0)}
    assert not list(finished.state.glob("*.part"))


@MODES
def test_the_frames_keep_their_times(finished: Finished) -> None:
    source, ours = times(DEMO), times(recording(finished))
    assert len(ours) == FRAMES
    assert ours[0] == 0
    assert [b - a for a, b in pairwise(ours)] == [b - a for a, b in pairwise(source)]


@MODES
def test_the_recording_is_h264_tagged_bt709(finished: Finished) -> None:
    with av.open(str(recording(finished))) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (1280, 720)
        assert not context.has_b_frames
        assert (context.colorspace, context.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert context.color_primaries == ColorPrimaries.BT709
        assert context.color_trc == ColorTrc.BT709


@MODES
def test_the_recording_is_cut_into_short_whole_fragments(finished: Finished) -> None:
    kinds = atoms(recording(finished))
    assert kinds[:2] == ["ftyp", "moov"], "what plays it must not have to seek for its index"
    fragments = [kind for kind in kinds[2:] if kind != "mfra"]
    assert fragments[::2] == ["moof"] * (len(fragments) // 2)
    assert fragments[1::2] == ["mdat"] * (len(fragments) // 2)
    assert len(fragments) // 2 >= 40, "four per second"


@MODES
def test_a_key_frame_comes_every_second(finished: Finished) -> None:
    with av.open(str(recording(finished))) as container:
        (stream,) = container.streams.video
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    keys = [moment(packet) for packet in packets if packet.is_keyframe]
    assert all(packet.pts == packet.dts for packet in packets)
    assert keys[0] == 0
    assert all(later - earlier <= 1 for earlier, later in pairwise([*keys, Fraction(10)]))


def test_the_events_list_every_frame_at_its_time(boxes: Finished) -> None:
    found = events(boxes)
    assert [event["frame"] for event in found] == list(range(FRAMES))
    assert {event["stream"] for event in found} == {"demo"}
    assert [event["pts"] for event in found] == pytest.approx([float(at) for at in times(DEMO)])
    seen = [seen for event in found for seen in event["detections"]]
    assert {(one["class_id"], one["label"]) for one in seen} == {(0, "face")}
    assert all(0.4 <= one["score"] <= 1 for one in seen)


def test_the_known_faces_are_found(boxes: Finished, truth: list[list[Box]]) -> None:
    assert sum(map(len, truth)) > 1000
    assert recall(truth, found(boxes)) >= 0.95


def test_little_else_is_found(boxes: Finished) -> None:
    every = json.loads(DEMO.with_suffix(".json").read_text())["frames"]
    real = [[face["box"] for face in faces] for faces in every]
    assert recall(found(boxes), real) >= 0.95


def test_no_face_is_found_again_once_blurred(seen_again: Finished, truth: list[list[Box]]) -> None:
    assert seen_again.receipts == {"demo": Receipt(FRAMES, FRAMES, 0, 0)}
    assert recall(truth, found(seen_again)) < 0.05


def test_the_counts_of_the_shipped_configuration_are_those_of_the_known_faces(
    centerface: Path, tmp_path: Path
) -> None:
    demo = load(DEMO.parents[1] / "config.yaml").streams["demo"]
    ((name, gate),), (corner,) = demo.lines.items(), demo.zones.values()
    places = {
        "lines": {name: {"from": gate.start, "to": gate.to}},
        "zones": {"corner": {"polygon": corner.polygon}},
    }
    fewer = {"detect": {"max_fps": 10}, "record": {"when": "never"}}
    stream = {"source": str(DEMO), **fewer, **places}
    finished = run(write_config(tmp_path, {"demo": stream}))
    frames = json.loads(DEMO.with_suffix(".json").read_text())["frames"]
    numbers = {face["id"] for faces in frames for face in faces}
    ways: dict[int, list[tuple[float, float] | None]] = {number: [] for number in numbers}
    for faces in frames:
        boxes = {face["id"]: face["box"] for face in faces}
        for number, way in ways.items():
            x1, _, x2, y2 = boxes.get(number, (0, 0, 0, 0))
            way.append(((x1 + x2) / 2 / 1280, y2 / 720) if number in boxes else None)
    (left, height), (right, _) = gate.start, gate.to
    crossed = [
        "in" if after[1] > height else "out"
        for way in ways.values()
        for before, after in pairwise(way)
        if before is not None and after is not None and left < before[0] < right
        if (before[1] > height) != (after[1] > height)
    ]
    (west, _), _, (_, south), _ = corner.polygon
    inside = [
        [at is not None and at[0] > west and at[1] < south for at in way] for way in ways.values()
    ]
    entries = sum(way[0] + sum(b > a for a, b in pairwise(way)) for way in inside)
    counts = finished.counts["demo"]
    assert (counts.crossed_in, counts.crossed_out) == (crossed.count("in"), crossed.count("out"))
    assert counts.entries == entries == 2
    assert sorted(crossed) == ["in", "out"]


def edges(size: tuple[int, int], boxes: list[Box], reach: float) -> NDArray[np.bool_]:
    """Return where a pixel is within ``reach`` of the edge of one of the boxes."""
    y, x = np.ogrid[: size[0], : size[1]]
    marked = np.zeros(size, np.bool_)
    for x1, y1, x2, y2 in boxes:
        outside = np.maximum(np.maximum(x1 - x, x - x2), np.maximum(y1 - y, y - y2))
        marked |= np.abs(outside) <= reach
    return marked


def covered(size: tuple[int, int], boxes: list[Box], margin: float) -> NDArray[np.bool_]:
    """Return what is inside one of the boxes, each grown by a share of itself on all sides."""
    marked = np.zeros(size, np.bool_)
    for x1, y1, x2, y2 in boxes:
        across, down = margin * (x2 - x1) + 8, margin * (y2 - y1) + 8
        top, left = max(round(y1 - down), 0), max(round(x1 - across), 0)
        marked[top : round(y2 + down) + 1, left : round(x2 + across) + 1] = True
    return marked


def test_boxes_are_drawn_and_little_else_is_changed(boxes: Finished) -> None:
    step = 25
    found_in = found(boxes)[::step]
    pairs = zip(pictures(DEMO, step), pictures(recording(boxes), step), found_in, strict=True)
    for before, after, faces in pairs:
        size = before.shape[:2]
        change = np.abs(after - before).max(axis=2)
        lines = edges(size, faces, 0.5)
        assert np.mean(change[lines] > 40) > 0.9, "the boxes' edges are not drawn"
        labels = [[x1, y1 - 28, max(x2, x1 + 120), y1] for x1, y1, x2, _ in faces]
        rest = ~covered(size, [*faces, *labels], 0.0)
        assert rest.mean() > 0.5
        assert change[rest].mean() < MEAN_CHANGE
        assert np.percentile(change[rest], 99.9) < 24


def test_blur_adds_nothing_to_what_is_detected(blurred: Finished, boxes: Finished) -> None:
    detected = [event["detections"] for event in events(boxes)]
    assert [event["detections"] for event in events(blurred)] == [
        [seen for seen in detections if seen["score"] >= 0.5] for detections in detected
    ]


def test_the_faces_are_filled_and_little_else_is_changed(
    blurred: Finished, boxes: Finished
) -> None:
    step = 25
    found_in = found(boxes)[::step]
    pairs = zip(pictures(DEMO, step), pictures(recording(blurred), step), found_in, strict=True)
    for before, after, faces in pairs:
        filled = np.abs(after - GREY).max(axis=2) <= 8
        for x1, y1, x2, y2 in np.array(faces).clip(0).astype(int):
            assert filled[y1:y2, x1:x2].all()
        near = cv2.dilate(filled.astype(np.uint8), np.ones((17, 17))).astype(bool)
        assert near.mean() < 0.5
        change = np.abs(after - before).max(axis=2)[~near]
        assert change.mean() < MEAN_CHANGE
        assert np.percentile(change, 99.9) < 24

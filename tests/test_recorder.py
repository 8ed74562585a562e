"""The recorder: times, segments, drawing, and failures."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from centernetd.config import BlurConfig, RecordConfig
from centernetd.errors import SinkError
from centernetd.flow import Detections, Filter, Meters, Result
from centernetd.sink import annotate as annotate_module
from centernetd.sink import encoder as encoder_module
from centernetd.sink import privacy as privacy_module
from centernetd.sink import recorder as recorder_module
from centernetd.sink import segments as segments_module
from centernetd.sink.segments import BURST, TOO_OFTEN
from centernetd.sink.stage import Outcome, Sink
from tests.sinks import (
    NOON,
    decode,
    detections,
    file_size_limit,
    picture,
    recorder_of,
    result,
    sink_context,
    times,
)


class FakeMeters(Meters):
    """Keeps the names of the stages that reported."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage_duration(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)


def open_recorder(
    root: Path, blur: BlurConfig | None = None, *, from_file: bool = False, **config: Any
) -> Sink:
    config = {"path": "{stream}.mp4", "segment": None, "codec": "libx264", **config}
    record = RecordConfig(**config)
    return recorder_of(sink_context(root, record=record, blur=blur, from_file=from_file))


def recordings(root: Path) -> dict[str, int]:
    """The number of frames in each file, by name."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): len(decode(path)) for path in paths}


@pytest.mark.parametrize(
    ("time_base", "steps"),
    [
        (Fraction(1, 1000), [40] * 40),
        (Fraction(1, 90000), [3003] * 40),
        (Fraction(1001, 30000), [1] * 40),
        (Fraction(7, 3), [1, 2, 1]),
        (Fraction(1, 1000000), [33333, 1, 999999, 66667] * 5),
        (Fraction(1, 1000), [1, 500, 33, 2500, 1, 1, 7000] * 4),
    ],
)
@pytest.mark.parametrize("start", [0, 123457])
def test_the_sources_time_is_kept_and_starts_at_zero(
    tmp_path: Path, time_base: Fraction, steps: Sequence[int], start: int
) -> None:
    recorder = open_recorder(tmp_path)
    source = list(accumulate(steps, initial=start))
    written = sum(
        recorder.write(result(number, pts=pts, time_base=time_base)).written
        for number, pts in enumerate(source)
    )
    assert written + recorder.close().written == len(source)
    expected = [(pts - start) * time_base for pts in source]
    assert times(tmp_path / "gate.mp4") == expected


def test_a_segment_ends_where_the_wall_clock_requires(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, path="{stream}/%H-%M-%S.mp4", segment=60.0)
    clock = [59.5, 59.99, 60.0, 119.0, 61.0, 300.0]
    written = sum(
        recorder.write(result(number, wall_time=NOON + seconds)).written
        for number, seconds in enumerate(clock)
    )
    assert written == 5
    assert recorder.close() == Outcome(1)
    assert recordings(tmp_path) == {
        "gate/22-00-59.mp4": 2,
        "gate/22-01-00.mp4": 3,
        "gate/22-05-00.mp4": 1,
    }
    assert times(tmp_path / "gate/22-01-00.mp4") == [0, Fraction(40, 1000), Fraction(80, 1000)]


def test_a_change_of_size_begins_a_file_and_nothing_else_does(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path)
    sizes = [(48, 64), (48, 64), (49, 63), (48, 64)]
    for number, size in enumerate(sizes):
        when = NOON + number * 7200 * (-1) ** number
        recorder.write(result(number, picture(*size), pts=number * 10**6, wall_time=when))
    recorder.close()
    assert recordings(tmp_path) == {"gate.mp4": 2, "gate-1.mp4": 1, "gate-2.mp4": 1}


def test_a_change_of_the_pixels_shape_begins_a_file(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path)
    aspects = [Fraction(1)] * 3 + [Fraction(64, 45)] * 2
    for number, aspect in enumerate(aspects):
        made = result(number)
        recorder.write(replace(made, frame=replace(made.frame, aspect=aspect)))
    recorder.close()
    assert recordings(tmp_path) == {"gate.mp4": 3, "gate-1.mp4": 2}
    for name, expected in (("gate.mp4", 1), ("gate-1.mp4", Fraction(64, 45))):
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected


def test_the_status_shows_what_was_written(tmp_path: Path) -> None:
    config = RecordConfig(path="{stream}.mp4", segment=None)
    context, meters = sink_context(tmp_path, record=config), FakeMeters()
    status, recorder = context.status, recorder_of(replace(context, meters=meters))
    assert recorder.close() == Outcome()
    for number in range(30):
        recorder.write(result(number))
        part = tmp_path / "gate.mp4.part"
        assert status.bytes_written == part.stat().st_size
    assert status.output == str(tmp_path / "gate.mp4")
    assert (status.segments, status.encoder) == (0, "libx264")
    recorder.close()
    assert status.segments == 1
    assert status.bytes_written == (tmp_path / "gate.mp4").stat().st_size
    assert meters.stages == ["privacy", "annotate", "encode"] * 30


STRIPES = np.zeros((96, 96, 3), np.uint8)
STRIPES[:, ::2] = 255
BOX = (32, 32, 64, 64)


@pytest.mark.parametrize("draw", ["boxes", "none"])
@pytest.mark.parametrize("style", ["fill", "mosaic", None])
def test_what_is_drawn(tmp_path: Path, draw: str, style: Any) -> None:
    recorder = open_recorder(tmp_path, style and BlurConfig(style=style), draw=draw)
    recorder.write(result(0, STRIPES.copy(), detections(BOX)))
    recorder.close()
    (frame,) = decode(tmp_path / "gate.mp4")
    image = frame.to_ndarray(format="bgr24").astype(int)
    green = image[32:64, 32, 1] - image[32:64, 32, 2]
    assert (green.mean() > 60) == (draw == "boxes")
    assert (np.ptp(image[40:60, 40:60]) < 40) == (style is not None)


def test_only_what_counts_is_drawn_and_all_that_blur_wants_is_covered(tmp_path: Path) -> None:
    weak, strong = detections((8, 8, 24, 24), score=0.2), detections((64, 64, 88, 88), score=0.5)
    both = Detections(
        np.concatenate([strong.xyxy, weak.xyxy]),
        np.concatenate([strong.confidence, weak.confidence]),
        np.concatenate([strong.class_id, weak.class_id]),
        np.full((2, 1, 3), (40, 40, 1), np.float32),
    )
    config = RecordConfig(path="{stream}.mp4", segment=None, codec="libx264", when="detection")
    context = sink_context(tmp_path, record=config, blur=BlurConfig())
    recorder = recorder_of(replace(context, shows=Filter(0.4), covers=Filter(0.2)))
    for number, found in enumerate([detections(), weak]):
        recorder.write(result(number, STRIPES.copy(), found))
    assert not (tmp_path / "gate.mp4.part").exists(), "nothing is recorded for its sake"
    recorder.write(result(2, STRIPES.copy(), both))
    recorder.close()
    *_, last = decode(tmp_path / "gate.mp4")
    image = last.to_ndarray(format="bgr24").astype(int)
    for box in (weak, strong):
        x1, y1, x2, y2 = box.xyxy[0].astype(int)
        drawn = image[y1:y2, x1 : x1 + 2, 1] - image[y1:y2, x1 : x1 + 2, 2]
        assert (drawn.max(axis=1).mean() > 60) == (box is strong)
        assert np.abs(image[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6] - 128).max() < 24
    assert np.ptp(image[36:44, 36:44]) > 200, "keypoints of a stream with blur are not drawn"


@pytest.mark.parametrize("broken", ["draw_boxes", "cover"])
def test_a_frame_that_can_not_be_drawn_on_is_never_written(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And only that one: those that become due with it are."""
    recorder = open_recorder(tmp_path, BlurConfig(hold=0.05))
    module: Any = {"draw_boxes": annotate_module, "cover": privacy_module}[broken]
    draw, calls = getattr(module, broken), count()

    def fail_once(*arguments: object, **options: object) -> None:
        if next(calls) == 1:
            raise RuntimeError("out of memory")
        draw(*arguments, **options)

    monkeypatch.setattr(module, broken, fail_once)
    settled = [recorder.write(result(number)) for number in (0, 1, 2, 9)]
    settled.append(recorder.close())
    assert times(tmp_path / "gate.mp4") == [0, Fraction(80, 1000), Fraction(360, 1000)]
    assert sum(one.written for one in settled) == 3
    assert sum(one.failed for one in settled) == 1
    assert "because it could not be" in caplog.text
    assert "out of memory" in caplog.text


def test_a_box_that_is_not_finite_is_never_written_unblurred(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, BlurConfig())
    assert recorder.write(result(0, found=detections((np.nan, 0, 5, 5)))) == Outcome()
    assert recorder.close() == Outcome(failed=1)
    assert not list(tmp_path.iterdir())


def test_a_failure_loses_the_frames_that_wait_and_no_others(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, BlurConfig(), path="{stream}/a.mp4")
    (tmp_path / "gate").write_bytes(b"a file")
    for number in range(5):
        assert recorder.write(result(number)) == Outcome()
    with pytest.raises(SinkError):
        recorder.write(result(5))
    (tmp_path / "gate").unlink()
    recorder.write(result(7))
    assert recorder.close() == Outcome(1)


def test_after_a_failure_a_new_file_is_begun(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path)
    written, pending, failures = 0, 0, 0
    with file_size_limit(50_000):
        for number in range(60):
            try:
                safe = recorder.write(result(number)).written
                written, pending = written + safe, pending + 1 - safe
            except SinkError:  # noqa: PERF203
                pending, failures = 0, failures + 1
    assert recorder.close() == Outcome(pending)
    files = recordings(tmp_path)
    assert len(files) == failures + 1 > 2
    assert sum(files.values()) == written + pending > 30
    assert all(name.endswith(".mp4") for name in files)


def test_an_unwritable_folder_is_a_sink_error_each_time(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, path="{stream}/a.mp4")
    (tmp_path / "gate").write_bytes(b"a file")
    for number in range(3):
        with pytest.raises(SinkError, match="can't be written"):
            recorder.write(result(number))
    (tmp_path / "gate").unlink()
    recorder.write(result(3))
    assert recorder.close() == Outcome(1)


def test_after_a_failure_the_encoder_is_chosen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = iter(["nonsense", "libx264"])
    monkeypatch.setattr(recorder_module, "choose_encoder", lambda *_: next(choices))
    recorder = open_recorder(tmp_path)
    with pytest.raises(SinkError, match="nonsense"):
        recorder.write(result(0))
    recorder.write(result(1))
    assert recorder.close() == Outcome(1)
    assert recordings(tmp_path) == {"gate.mp4": 1}


@pytest.mark.parametrize(
    ("codec", "advice"),
    [
        ("h264_nvenc", "; set record.codec: auto"),
        ("hevc_nvenc", "; set record.codec: auto"),
        ("libx264", ""),
        ("auto", ""),
    ],
)
def test_an_encoder_that_does_not_work_is_reported_with_advice_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    codec: str,
    advice: str,
) -> None:
    def refuse(*_: object) -> None:
        raise av.error.PermissionError(1, "Operation not permitted", "avcodec_open2({})")

    monkeypatch.setattr(encoder_module, "_open", refuse)
    monkeypatch.setattr(encoder_module, "has_nvidia_device", lambda: True)
    caplog.set_level(logging.INFO)
    recorder = open_recorder(tmp_path, codec=codec)
    with pytest.raises(SinkError) as failed:
        recorder.write(result(0))
    why = f" can't encode: operation not permitted{advice}"
    assert str(failed.value).endswith(why)
    assert not [line for line in caplog.messages if line.startswith("recording ")]


def changing_sizes(count: int) -> list[Result]:
    """Frames of which each has another size than the one before."""
    sizes = ((48, 64), (96, 128))
    return [result(number, picture(*sizes[number % 2], seed=number)) for number in range(count)]


@pytest.mark.parametrize("when", ["always", "detection"])
def test_a_camera_that_changes_its_size_again_and_again_gets_no_file_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    monkeypatch.setattr(segments_module, "INTERVAL", 1e9)
    caplog.set_level(logging.INFO)
    recorder = open_recorder(tmp_path, when=when)
    book = [recorder.write(item) for item in changing_sizes(50)]
    settled = Outcome(*(sum(counts) for counts in zip(*book, recorder.close(), strict=True)))
    files = recordings(tmp_path)
    begun = BURST if when == "always" else 0
    assert files == dict.fromkeys(files, 1)
    assert len(files) == settled.written == begun
    assert sum(settled) <= 50, "what isn't settled, the stage counts as failed"
    lines = [line for line in caplog.messages if line.startswith("recording ")]
    assert len(lines) == BURST, "nor an encoder, nor a line of the log"
    assert caplog.messages.count(TOO_OFTEN) == 50 - BURST


def test_recording_continues_when_the_size_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = open_recorder(tmp_path)
    book = [recorder.write(item) for item in changing_sizes(30)]
    monkeypatch.setattr(segments_module, "BURST", 10_000)
    book += [recorder.write(result(number)) for number in range(30, 60)]
    book.append(recorder.close())
    files = recordings(tmp_path)
    assert sum(files.values()) == sum(settled.written for settled in book)
    assert max(files.values()) == 30
    assert sum(settled.failed for settled in book) == 60 - sum(files.values())


def test_a_file_as_source_may_change_its_size_at_every_frame(tmp_path: Path) -> None:
    recorder = open_recorder(tmp_path, from_file=True)
    written = sum(recorder.write(item).written for item in changing_sizes(30))
    assert written + recorder.close().written == 30
    assert len(recordings(tmp_path)) == 30

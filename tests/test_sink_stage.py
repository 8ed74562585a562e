"""The sink stage: every frame is posted once, whatever the sink does."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.config import BlurConfig, EventsConfig, RecordConfig
from centernetd.errors import SinkError
from centernetd.flow import Lane, Reason, Result
from centernetd.sink.events import EventLog
from centernetd.sink.privacy import Privacy
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import IDLE, RETRY_INTERVAL, BatchStage, Outcome, SinkStage
from tests.fakes import refuse_if, wait_until
from tests.sinks import (
    decode,
    detections,
    open_lane,
    recorder_of,
    result,
    send,
    sink_context,
)

ACTIONS = ["hold", "flush", "lose", "fail", "fault", "unwanted"]


FAULT = ZeroDivisionError("a fault")


class FakeSink:
    """Follows a script, one step per frame; strict about how it is used."""

    def __init__(self, script: Sequence[str], at_close: str = "flush") -> None:
        self.script = list(script)
        self.at_close = at_close
        self.held: list[int] = []
        self.written: list[int] = []
        self.lost: list[int] = []
        self.closed = False

    def wants(self, result: Result) -> bool:
        refuse_if(self.closed)
        return self.script[result.frame.frame_id] != "unwanted"

    def write(self, result: Result) -> Outcome:
        refuse_if(self.closed)
        number = result.frame.frame_id
        refuse_if(number <= max([-1, *self.held, *self.written, *self.lost]), "out of order")
        match self.script[number]:
            case "lose":
                self.lost.append(number)
                return Outcome(failed=1)
            case "fail" | "fault" as how:
                self.lost += [*self.held, number]
                self.held = []
                raise SinkError("the disk is full") if how == "fail" else FAULT
            case "exit":
                raise SystemExit
            case action:
                self.held.append(number)
                return self._flush() if action == "flush" else Outcome()

    def close(self) -> Outcome:
        refuse_if(self.closed)
        self.closed = True
        if self.at_close in ("fail", "fault"):
            raise SinkError("the disk is full") if self.at_close == "fail" else FAULT
        return self._flush() if self.at_close == "flush" else Outcome()

    def _flush(self) -> Outcome:
        count = len(self.held)
        self.written += self.held
        self.held = []
        return Outcome(count)


class FakeClock:
    """Moves on by the given seconds each time it is read."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def run(sink: FakeSink, step: float = 10 * RETRY_INTERVAL) -> Lane:
    lane = open_lane(RECORD)
    send(lane, [result(number) for number in range(len(sink.script))])
    SinkStage(lane, RECORD, sink, FakeClock(step)).run()
    assert sink.closed
    return lane


def dropped(lane: Lane, reason: Reason) -> int:
    return lane.ledger.read().dropped[RECORD, reason]


@given(
    script=st.lists(st.sampled_from(ACTIONS), max_size=60),
    at_close=st.sampled_from(["flush", "forget", "fail", "fault"]),
    step=st.sampled_from([0.01, 0.3, 2.0]),
)
def test_conservation(script: list[str], at_close: str, step: float) -> None:
    sink = FakeSink(script, at_close)
    lane = run(sink, step)
    book = lane.ledger.read()
    assert book.balanced
    assert book.in_flight[RECORD] == 0
    assert book.written[RECORD] == len(sink.written)
    assert dropped(lane, Reason.UNWANTED) == script.count("unwanted")
    assert book.captured == len(script)
    assert book.dropped_at(RECORD) == len(script) - len(sink.written)


def test_a_broken_output_is_retried_after_a_second_without_waiting() -> None:
    sink = FakeSink(["flush", "fail", *["flush"] * 8])
    lane = run(sink, step=1 / 8)
    assert sink.lost == [1]
    assert sink.written[:2] == [0, 1 + 4]
    assert dropped(lane, Reason.FAILED) == 4


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    run(FakeSink(["flush", "fail", "hold", "fail", "fail", "hold", "flush", "flush"]))
    assert [record.getMessage() for record in caplog.records] == [
        "the disk is full; frames are dropped until it works again",
        "record is written again",
    ]
    assert {record.stream for record in caplog.records} == {"gate"}  # type: ignore[attr-defined]


def test_a_lost_frame_stops_nothing() -> None:
    sink = FakeSink(["hold", "lose", "hold", "flush"])
    lane = run(sink)
    assert sink.written == [0, 2, 3]
    assert dropped(lane, Reason.FAILED) == 1


def test_a_lost_frame_has_failed_even_if_time_runs_out_for_the_rest() -> None:
    lane = open_lane(RECORD)
    sink = FakeSink(["lose", "hold", "hold"], at_close="forget")
    send(lane, [result(number) for number in range(3)])
    lane.hurried = True
    SinkStage(lane, RECORD, sink, FakeClock(10)).run()
    assert (dropped(lane, Reason.FAILED), dropped(lane, Reason.SHUTDOWN)) == (1, 2)
    assert lane.ledger.read().balanced


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_a_fault_is_an_outage_like_any_other(caplog: pytest.LogCaptureFixture, level: int) -> None:
    """It is retried and logged once; the traceback is only in the debug log."""
    caplog.set_level(level)
    run(FakeSink(["flush", "fault", "hold", "fault", "fault", "hold", "flush", "flush"]))
    debug = ["traceback"] if level == logging.DEBUG else []
    assert [record.getMessage() for record in caplog.records] == [
        "a fault in centernetd while writing record: ZeroDivisionError('a fault'); frames are "
        "dropped until it works again",
        *debug,
        "record is written again",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [False, *map(bool, debug), False]


def test_a_fault_in_judging_a_frame_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FakeSink(["flush"] * 3)

    def fail(_: Result) -> bool:
        raise FAULT

    monkeypatch.setattr(sink, "wants", fail)
    lane = run(sink)
    assert dropped(lane, Reason.FAILED) == 3


def test_an_interrupted_stage_still_finishes_the_output() -> None:
    sink = FakeSink(["hold", "hold", "hold", "exit"])
    lane = open_lane(RECORD)
    send(lane, [result(number) for number in range(4)])
    with pytest.raises(SystemExit):
        SinkStage(lane, RECORD, sink, FakeClock(10)).run()
    assert sink.closed
    book = lane.ledger.read()
    assert book.balanced
    assert (book.written[RECORD], book.dropped_at(RECORD), book.in_flight[RECORD]) == (3, 1, 0)


def test_frames_that_wait_to_be_blurred_are_dropped_where_time_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = open_lane(RECORD)
    config = RecordConfig(path="{stream}.mp4", segment=None, codec="libx264")
    context = sink_context(tmp_path, record=config, blur=BlurConfig(hold=1))
    recorder = recorder_of(replace(context, hurried=lambda: lane.hurried))
    stage = SinkStage(lane, RECORD, recorder)
    take = Privacy.take

    def take_slowly(self: Privacy) -> Result:
        lane.cut_short()  # while the first is covered
        return take(self)

    monkeypatch.setattr(Privacy, "take", take_slowly)
    send(lane, [result(number) for number in range(10)])
    stage.run()
    book = lane.ledger.read()
    assert (book.written[RECORD], book.dropped[RECORD, Reason.SHUTDOWN]) == (1, 9)
    assert book.balanced
    assert len(decode(tmp_path / "gate.mp4")) == 1
    assert not list(tmp_path.glob("*.part"))


def test_frames_that_wait_to_be_blurred_are_pending_and_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = open_lane(RECORD)
    config = RecordConfig(path="{stream}.mp4", segment=None, codec="libx264")
    recorder = recorder_of(sink_context(tmp_path, record=config, blur=BlurConfig()))
    seen: list[tuple[int, int]] = []
    write = recorder.write

    def watch(item: Result) -> Outcome:
        book = lane.ledger.read()
        assert book.balanced
        seen.append((book.written[RECORD], book.in_flight[RECORD]))
        return write(item)

    monkeypatch.setattr(recorder, "write", watch)
    send(lane, [result(number) for number in range(50)])
    SinkStage(lane, RECORD, recorder).run()
    assert seen[5] == (0, 50)
    assert seen[-1][0] > 0
    book = lane.ledger.read()
    assert (book.written[RECORD], book.in_flight[RECORD], book.balanced) == (50, 0, True)


def test_a_file_is_completed_while_its_camera_sends_nothing(tmp_path: Path) -> None:
    lane = open_lane(RECORD)
    context = sink_context(tmp_path, record=RecordConfig(path="{stream}.mp4"))
    stage = SinkStage(lane, RECORD, recorder_of(context), patience=0.01)
    writer = threading.Thread(target=stage.run, daemon=True)
    writer.start()

    def written(count: int) -> bool:
        return lane.ledger.read().written[RECORD] == count

    for number, name in ((0, "gate.mp4"), (1, "gate-1.mp4")):
        item = result(number)
        assert lane.offer(item.frame)
        assert lane.take() is item.frame
        lane.deliver(item)
        wait_until(partial(written, number + 1))
        assert (tmp_path / name).exists()
    lane.close()
    writer.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate-1.mp4", "gate.mp4"]
    assert all(len(decode(path)) == 1 for path in tmp_path.iterdir())


def test_events_are_completed_when_nothing_is_to_be_written_for_a_minute(tmp_path: Path) -> None:
    lane, now = open_lane(EVENTS), [0.0]
    context = sink_context(tmp_path, events=EventsConfig(path="{stream}.jsonl"))
    stage = BatchStage(lane, EVENTS, EventLog(context), lambda: now[-1])
    path = tmp_path / "gate.jsonl"

    def deliver(number: int, *boxes: Sequence[float]) -> None:
        item = result(number, found=detections(*boxes))
        assert lane.offer(item.frame)
        assert lane.take() is item.frame
        lane.deliver(item)
        stage.turn()

    deliver(0, (1, 2, 3, 4))
    assert context.storage.writing == {path}
    now.append(IDLE - 1)
    deliver(1)  # a frame of which nothing is written
    assert not stage.due
    now.append(IDLE)
    assert stage.due
    stage.turn()
    assert context.storage.writing == set()
    assert not stage.due
    deliver(2, (1, 2, 3, 4))
    assert context.storage.writing == {path}
    lane.close()
    stage.turn()
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("at_close", ["flush", "fail"])
def test_the_duration_of_the_current_write_is_visible(at_close: str) -> None:
    class Slow(FakeSink):
        def write(self, result: Result) -> Outcome:
            clock.now += 7
            seen.append(stage.busy_for)
            return super().write(result)

        def close(self) -> Outcome:
            clock.now += 9
            seen.append(stage.busy_for)
            return super().close()

    seen: list[float] = []
    clock, lane, sink = FakeClock(0.0), open_lane(RECORD), Slow(["hold", "fail"], at_close)
    clock.now = 100.0
    stage = SinkStage(lane, RECORD, sink, clock)
    send(lane, [result(number) for number in range(2)])
    assert stage.busy_for == 0
    stage.run()
    assert seen == [7, 7, 9]
    assert stage.busy_for == 0


def test_a_failure_at_the_end_is_logged_unless_the_outage_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lane = run(FakeSink(["hold"], "fail"))
    assert dropped(lane, Reason.FAILED) == 1
    assert caplog.messages == ["the disk is full; frames are dropped until it works again"]
    run(FakeSink(["fail"], "fail"))
    assert len(caplog.messages) == 2

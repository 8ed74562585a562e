"""Packets past inference: through the lane, and to a recorder along with the frames."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from centernetd.errors import SinkError
from centernetd.flow import (
    INFERENCE,
    Arrivals,
    Backpressure,
    Frame,
    HostImage,
    Lane,
    Packet,
    Reason,
    Result,
    TrackEvent,
)
from centernetd.sink import recorder as recorder_module
from centernetd.sink.recorder import PacketRecorder
from centernetd.sink.registry import RECORD
from centernetd.sink.stage import RETRY_INTERVAL, BatchStage, Outcome, SinkContext
from tests.fakes import MODEL, WAIT_TIMEOUT, detections, image, refuse_if, wait_until
from tests.sinks import MILLISECOND, coded, sink_context

PACKETS = list(coded(12))


class FakeRecorder:
    """Writes a frame when its packet came; fails at the given packets. Strict."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.fed: list[int] = []
        self.judged: list[int] = []
        self.closed = 0
        self.before: Callable[[Packet], None] = lambda _: None
        self._failing = failing

    def write_packets(self, packets: Iterable[Packet], results: Sequence[Result]) -> Outcome:
        for packet in packets:
            self.before(packet)
            refuse_if(packet.number <= max(self.fed, default=0), "out of order")
            self.fed.append(packet.number)
            if packet.number in self._failing:
                raise SinkError("the disk is full")
        for result in results:
            refuse_if(result.frame.packet > max(self.fed), "a frame before its packets")
            self.judged.append(result.frame.frame_id)
        return Outcome(written=len(results))

    def close(self) -> Outcome:
        self.closed += 1
        return Outcome()


class FakeLog:
    """A sink without packets, to which nothing should be written. Strict."""

    def select(self, result: Result) -> Result:
        raise AssertionError(result)

    def write_batch(self, results: Sequence[Result], events: Sequence[TrackEvent] = ()) -> Outcome:
        raise AssertionError(results, events)

    def close(self) -> Outcome:
        return Outcome()


def open_lane(
    backpressure: Backpressure,
    depth: int = 100,
    announce: Callable[[bool], None] = lambda _: None,
    *,
    copies: bool = True,
) -> Lane:
    arrivals = Arrivals()
    return Lane(
        "gate",
        backpressure,
        depth=depth,
        inbox=100,
        arrivals={MODEL: arrivals},
        sinks=[RECORD],
        without_pixels=[RECORD],
        copies=copies,
        announce=announce,
    )


def frame(packet: Packet) -> Frame:
    wall, number = packet.wall_time, packet.number
    return Frame(number - 1, HostImage(image()), packet.pts, MILLISECOND, 0.0, wall, number)


@pytest.mark.parametrize("at_once", [1, 5, 12])
def test_packets_go_past_what_inference_drops(at_once: int) -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder()
    stage = BatchStage(lane, RECORD, recorder)
    for packet in PACKETS:
        lane.pass_packet(packet)
        lane.offer(frame(packet))
        taken = lane.take()
        assert taken is not None
        if packet.number % 3:
            lane.drop(INFERENCE, Reason.TOO_OLD)
        else:
            lane.deliver(Result(taken, detections()))
        if packet.number % at_once == 0:
            assert stage.due
            stage.turn()
            assert not stage.due
    lane.close()
    stage.turn()
    assert stage.ended
    assert recorder.fed == list(range(1, 13))
    assert recorder.judged == [2, 5, 8, 11]
    book = lane.ledger.read()
    assert book.balanced
    assert (book.written[RECORD], book.in_flight[RECORD]) == (4, 0)


def test_after_a_failure_packets_are_left_out_for_a_while() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder(failing=[3])
    now = 100.0
    stage = BatchStage(lane, RECORD, recorder, lambda: now)
    for packet in PACKETS:
        lane.pass_packet(packet)
        if packet.number % 2 == 0:  # the fourth is lost with the third, which fails
            stage.turn()
            now += RETRY_INTERVAL / 4
    assert recorder.fed == [1, 2, 3, 11, 12]


def test_frames_whose_packets_fail_are_dropped_as_failed() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder(failing=[2])
    for packet in PACKETS[:2]:
        lane.pass_packet(packet)
        lane.offer(frame(packet))
        taken = lane.take()
        assert taken is not None
        lane.deliver(Result(taken, detections()))
    lane.close()
    BatchStage(lane, RECORD, recorder).turn()
    book = lane.ledger.read()
    assert (book.written[RECORD], book.dropped[RECORD, Reason.FAILED]) == (0, 2)
    assert book.balanced


def test_a_file_is_completed_when_neither_packets_nor_frames_come() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder()
    now = 100.0
    stage = BatchStage(lane, RECORD, recorder, lambda: now, patience=5.0)
    lane.pass_packet(PACKETS[0])
    stage.turn()
    now += 4.0
    lane.pass_packet(PACKETS[1])
    stage.turn()
    now += 4.0
    assert not stage.due
    now += 1.0
    assert stage.due
    stage.turn()
    assert (recorder.closed, stage.ended) == (1, False)


def test_what_happens_to_tracks_is_for_another_sink() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder()
    stage = BatchStage(lane, RECORD, recorder)
    box = (1.0, 2.0, 3.0, 4.0)
    lane.report([TrackEvent("start", "t", 1, "person", 0.9, 0.0, 0.0, box, (48, 64))])
    assert not stage.due
    stage.turn()
    assert lane.reported


class FakeRecording:
    """Notes what is done with packets and frames."""

    def __init__(self, _: SinkContext) -> None:
        self.done: list[tuple[str, int]] = []

    def add(self, packet: Packet) -> None:
        self.done.append(("add", packet.number))

    def judge(self, time: float, packet: int, *, found: bool) -> None:
        self.done.append(("judge", packet))

    def settle(self) -> Outcome:
        return Outcome()


def test_each_frame_is_judged_before_a_later_packet_may_end_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "Recording", FakeRecording)
    recorder = PacketRecorder(sink_context(tmp_path))
    seen = [Result(frame(PACKETS[n]), detections()) for n in (0, 2, 3)]
    recorder.write_packets(PACKETS[:5], seen)
    recorder.write_packets([], [Result(frame(PACKETS[4]), detections())])
    assert cast(FakeRecording, recorder._recording).done == [
        *(("add", 1), ("judge", 1), ("add", 2), ("add", 3), ("judge", 3), ("add", 4)),
        *(("judge", 4), ("add", 5), ("judge", 5)),
    ]


def test_a_recorder_is_busy_with_one_packet_at_a_time() -> None:
    """So that many packets on a slow disk are no hung write."""
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder()
    now = [100.0]
    stage = BatchStage(lane, RECORD, recorder, lambda: now[0])
    busy: list[float] = []

    def pass_time(_: Packet) -> None:
        busy.append(stage.busy_for)
        now[0] += 7.0

    recorder.before = pass_time
    for packet in PACKETS:
        lane.pass_packet(packet)
    stage.turn()
    assert busy == [0.0] * len(PACKETS)


def test_a_recorder_in_a_hurry_leaves_the_rest_of_its_packets() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder()
    recorder.before = lambda packet: lane.cut_short() if packet.number == 3 else None
    for packet in PACKETS:
        lane.pass_packet(packet)
    BatchStage(lane, RECORD, recorder).turn()
    assert recorder.fed == [1, 2, 3]


@pytest.mark.parametrize(("copies", "left"), [(True, 100), (False, 8)])
def test_results_may_wait_for_as_long_as_the_packets_that_they_belong_to(
    copies: bool, left: int
) -> None:
    lane = open_lane(Backpressure.DROP_OLDEST, depth=8, copies=copies)
    for number in range(100):
        lane.offer(replace(frame(PACKETS[0]), frame_id=number))
        taken = lane.take()
        assert taken is not None
        lane.deliver(Result(taken, detections()))
    assert len(lane.outlets[RECORD]) == left


def test_packets_are_for_no_sink_but_the_one_that_copies_them() -> None:
    lane = open_lane(Backpressure.DROP_OLDEST)
    stage = BatchStage(lane, RECORD, FakeLog())
    lane.pass_packet(PACKETS[0])
    assert not stage.due
    stage.turn()
    assert lane.packets is not None
    assert len(lane.packets) == 1


def test_packets_are_announced_urgently_when_half_of_their_place_is_filled() -> None:
    announced: list[bool] = []
    lane = open_lane(Backpressure.BLOCK, depth=8, announce=announced.append)
    for packet in PACKETS[:5]:
        lane.pass_packet(packet)
    assert announced == [False, False, False, True, True]


def test_a_blocking_lane_waits_for_a_recorder_that_is_behind_with_packets() -> None:
    lane = open_lane(Backpressure.BLOCK, depth=4)
    for packet in PACKETS[:5]:
        lane.pass_packet(packet)
    offered: list[bool] = []
    thread = threading.Thread(target=lambda: offered.append(lane.offer(frame(PACKETS[4]))))
    thread.start()
    assert lane.packets is not None
    wait_until(lambda: bool(lane._room._waiters))  # type: ignore[attr-defined]
    assert not offered
    for _ in range(3):
        lane.packets.take()
    thread.join(WAIT_TIMEOUT)
    assert offered == [True]


def test_a_full_channel_lets_the_oldest_packet_go() -> None:
    lane = open_lane(Backpressure.DROP_OLDEST)
    assert lane.packets is not None
    for packet in PACKETS:
        for _ in range(lane.packets.capacity // 6):
            lane.pass_packet(packet)
    assert len(lane.packets) == lane.packets.capacity
    first = lane.packets.take()
    assert first is not None
    assert first.number > 1


def test_a_closed_lane_takes_no_more_packets() -> None:
    lane = open_lane(Backpressure.BLOCK)
    lane.close()
    lane.pass_packet(PACKETS[0])
    assert lane.packets is not None
    assert len(lane.packets) == 0

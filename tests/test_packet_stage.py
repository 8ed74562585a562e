"""Packets past inference: through the lane, and to a recorder along with the frames."""

import threading
from collections.abc import Sequence

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
)
from centernetd.sink.registry import RECORD
from centernetd.sink.stage import RETRY_INTERVAL, Outcome, SinkStage
from tests.fakes import MODEL, WAIT_TIMEOUT, detections, image, refuse_if, wait_until
from tests.sinks import MILLISECOND, coded

PACKETS = list(coded(12))


class FakeRecorder:
    """Writes a frame when its packet came; fails on the given packets. Strict."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.fed: list[int] = []
        self.judged: list[int] = []
        self._failing = failing

    def wants(self, result: Result) -> bool:
        return True

    def write_packet(self, packet: Packet) -> Outcome:
        refuse_if(packet.number <= max(self.fed, default=0), "out of order")
        self.fed.append(packet.number)
        if packet.number in self._failing:
            raise SinkError("the disk is full")
        return Outcome()

    def write(self, result: Result) -> Outcome:
        refuse_if(result.frame.packet > max(self.fed), "a frame before its packets")
        self.judged.append(result.frame.frame_id)
        return Outcome(written=1)

    def close(self) -> Outcome:
        return Outcome()


def open_lane(backpressure: Backpressure, depth: int = 100) -> Lane:
    arrivals = Arrivals()
    return Lane(
        "gate",
        backpressure,
        depth=depth,
        inbox=100,
        arrivals={MODEL: arrivals},
        sinks=[RECORD],
        packets_to=RECORD,
    )


def frame(packet: Packet) -> Frame:
    wall, number = packet.wall_time, packet.number
    return Frame(number - 1, HostImage(image()), packet.pts, MILLISECOND, 0.0, wall, number)


def run(recorder: FakeRecorder, lane: Lane, step: float = 10 * RETRY_INTERVAL) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    SinkStage(lane, RECORD, recorder, clock).run()


def test_packets_go_past_what_inference_drops() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder()
    for packet in PACKETS:
        lane.pass_packet(packet)
        lane.offer(frame(packet))
        taken = lane.take()
        assert taken is not None
        if packet.number % 3:
            lane.drop(INFERENCE, Reason.TOO_OLD)
        else:
            lane.deliver(Result(taken, detections()))
    lane.close()
    run(recorder, lane)
    assert recorder.fed == list(range(1, 13))
    assert recorder.judged == [2, 5, 8, 11]
    book = lane.ledger.read()
    assert book.balanced
    assert (book.written[RECORD], book.in_flight[RECORD]) == (4, 0)


def test_after_a_failure_packets_are_left_out_for_a_while() -> None:
    lane, recorder = open_lane(Backpressure.DROP_OLDEST), FakeRecorder(failing=[3])
    for packet in PACKETS:
        lane.pass_packet(packet)
    lane.close()
    run(recorder, lane, step=RETRY_INTERVAL / 4)
    assert recorder.fed[:3] == [1, 2, 3]
    assert recorder.fed[3] > 4
    assert recorder.fed[-1] == 12


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

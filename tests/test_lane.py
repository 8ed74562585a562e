"""Lanes: order, two kinds of backpressure, and a book that balances at every step."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from centernetd.flow import (
    CAPTURE,
    INFERENCE,
    Arrivals,
    Backpressure,
    Budget,
    Coding,
    Frame,
    HostImage,
    Lane,
    Packet,
    Reason,
    Result,
    StageName,
    StreamState,
)
from centernetd.sink.registry import EVENTS, RECORD
from tests.fakes import MODEL, TIME_BASE, WAIT_TIMEOUT, detections, frame, wait_until

BLOCK, DROP = Backpressure.BLOCK, Backpressure.DROP_OLDEST
SINKS = (RECORD, EVENTS)


def a_lane(
    backpressure: Backpressure = DROP,
    *,
    depth: int = 4,
    inbox: int = 2,
    sinks: tuple[StageName, ...] = SINKS,
    arrivals: Arrivals | None = None,
    copies: bool = False,
    without_pixels: tuple[StageName, ...] = (),
) -> Lane:
    return Lane(
        "lane",
        backpressure,
        depth=depth,
        inbox=inbox,
        arrivals={MODEL: arrivals or Arrivals()},
        sinks=sinks,
        copies=copies,
        without_pixels=without_pixels,
    )


def packet(number: int) -> Packet:
    coding = Coding("h264", 64, 48)
    return Packet(number, b"x", number, number, 1, TIME_BASE, True, 0.0, coding)


def infer(lane: Lane) -> int:
    taken = lane.take()
    assert taken is not None
    lane.deliver(Result(taken, detections()))
    return taken.frame_id


def read(lane: Lane, sink: StageName) -> list[int]:
    ids = []
    while (result := lane.outlets[sink].take()) is not None:
        lane.ledger.write(sink)
        ids.append(result.frame.frame_id)
    return ids


def offered_in_a_thread(lane: Lane, offered: Frame) -> tuple[threading.Thread, list[bool]]:
    """Offer a frame where it blocks, and return once it does."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(lane.offer(offered)), daemon=True)
    thread.start()
    wait_until(lambda: bool(lane._room._waiters))  # type: ignore[attr-defined]
    return thread, answers


def test_frames_reach_every_sink_in_order() -> None:
    lane = a_lane(BLOCK)
    for n in range(3):
        assert lane.offer(frame(n))
    assert [infer(lane) for _ in range(3)] == [0, 1, 2]
    lane.close()
    assert [read(lane, sink) for sink in SINKS] == [[0, 1, 2], [0, 1, 2]]
    book = lane.ledger.read()
    assert book.balanced
    assert not any(book.in_flight.values())


def test_a_dropping_lane_keeps_the_newest_frames() -> None:
    lane = a_lane(DROP, inbox=2)
    assert all(lane.offer(frame(n)) for n in range(5))
    assert lane.waiting == 2
    assert [infer(lane), infer(lane)] == [3, 4]
    assert lane.ledger.read().dropped[CAPTURE, Reason.OVERFLOW] == 3


def test_a_slow_sink_of_a_dropping_lane_loses_its_oldest_and_the_other_sink_nothing() -> None:
    lane = a_lane(DROP, depth=2)
    for n in range(5):
        lane.offer(frame(n))
        infer(lane)
        assert read(lane, EVENTS) == [n]
    assert read(lane, RECORD) == [3, 4]
    book = lane.ledger.read()
    assert book.dropped[RECORD, Reason.OVERFLOW] == 3
    assert book.dropped_at(EVENTS) == 0
    assert book.balanced


@pytest.mark.parametrize("sinks", [SINKS, (EVENTS,), ()])
def test_a_blocking_lane_never_drops_and_waits_for_its_slowest_sink(
    sinks: tuple[StageName, ...],
) -> None:
    lane = a_lane(BLOCK, depth=2, sinks=sinks)
    assert lane.offer(frame(0))
    assert lane.offer(frame(1))
    thread, answers = offered_in_a_thread(lane, frame(2))
    infer(lane)
    for sink in sinks:
        assert thread.is_alive()
        read(lane, sink)
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]
    assert lane.ledger.read().dropped_at(CAPTURE, INFERENCE, *sinks) == 0


def lanes_on(budget: Budget, *names: str, depth: int = 8) -> list[Lane]:
    arrivals = Arrivals()
    return [
        Lane(
            name,
            BLOCK,
            depth=depth,
            inbox=2,
            arrivals={MODEL: arrivals},
            sinks=SINKS,
            budget=budget,
        )
        for name in names
    ]


def test_blocking_lanes_share_a_budget_of_bytes() -> None:
    size = frame(0).image.nbytes
    first, second = lanes_on(Budget(6 * size, lambda: 0), "first", "second")
    for lane in (first, second):
        for n in range(3):
            assert lane.offer(frame(n))
    thread, answers = offered_in_a_thread(first, frame(3))
    second.close()
    assert answers == [], "it holds its share, and whoever goes first makes no room immediately"
    infer(first)
    read(first, RECORD)
    read(first, EVENTS)
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]
    for n in range(4, 7):
        assert first.offer(frame(n)), "the other's share is there for the taking"
    thread, answers = offered_in_a_thread(first, frame(7))
    first.close()
    thread.join(WAIT_TIMEOUT)
    assert answers == [False]


def test_a_picture_larger_than_a_share_comes_alone() -> None:
    first, _ = lanes_on(Budget(1, lambda: 1), "first", "second")
    assert first.offer(frame(0))
    thread, answers = offered_in_a_thread(first, frame(1))
    infer(first)
    read(first, RECORD)
    read(first, EVENTS)
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]


def test_a_live_lane_takes_nothing_of_the_budget() -> None:
    budget = Budget(1000, lambda: 100)
    arrivals = Arrivals()
    Lane("cam", DROP, depth=8, inbox=2, arrivals={MODEL: arrivals}, sinks=SINKS, budget=budget)
    (lane,) = lanes_on(budget, "file")
    image = frame(0).image
    assert budget.share(image) == 1000
    lane.close()
    assert budget.share(image) == 1000


def test_pictures_on_a_gpu_have_a_budget_of_their_own() -> None:
    class OnGpu(HostImage):
        on_gpu = True

    def on_gpu(number: int) -> Frame:
        return replace(frame(number), image=OnGpu(frame(number).image.pixels()))

    size = frame(0).image.nbytes
    limit = 4 * size
    first, second = lanes_on(Budget(100 * size, lambda: limit), "first", "second")
    for n in range(2):
        assert first.offer(on_gpu(n))
    for n in range(8):
        assert second.offer(frame(n))
    thread, answers = offered_in_a_thread(first, on_gpu(2))
    assert answers == []
    infer(first)
    read(first, RECORD)
    read(first, EVENTS)
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]
    limit = 6 * size
    assert first.offer(on_gpu(3)), "a budget that grows is there immediately"


def test_a_frame_dropped_before_the_sinks_makes_room() -> None:
    lane = a_lane(BLOCK, depth=1)
    lane.offer(frame(0))
    thread, answers = offered_in_a_thread(lane, frame(1))
    lane.take()
    lane.drop(INFERENCE, Reason.TOO_OLD)
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]


@pytest.mark.parametrize("end", [Lane.close, Lane.discard, Lane.abandon])
def test_a_blocked_offer_is_woken_by_the_end_and_its_frame_not_counted(end: object) -> None:
    assert callable(end)
    lane = a_lane(BLOCK, depth=1)
    lane.offer(frame(0))
    thread, answers = offered_in_a_thread(lane, frame(1))
    end(lane)
    thread.join(WAIT_TIMEOUT)
    assert answers == [False]
    assert lane.ledger.read().captured == 1
    assert lane.ledger.read().balanced


def test_a_closed_lane_lets_nothing_in_and_drains() -> None:
    lane = a_lane()
    lane.offer(frame(0))
    lane.offer(frame(1))
    lane.close()
    assert not lane.offer(frame(2))
    assert not any(outlet.closed for outlet in lane.outlets.values())
    infer(lane)
    taken = lane.take()
    assert taken is not None
    assert not any(outlet.closed for outlet in lane.outlets.values())
    lane.deliver(Result(taken, detections()))
    assert all(outlet.closed for outlet in lane.outlets.values())
    assert [result.frame.frame_id for result in lane.outlets[RECORD]] == [0, 1]


def test_an_empty_lane_that_closes_closes_its_outlets() -> None:
    lane = a_lane()
    lane.close()
    assert all(outlet.closed for outlet in lane.outlets.values())


def test_the_last_frame_may_be_dropped_rather_than_delivered() -> None:
    lane = a_lane()
    lane.offer(frame(0))
    lane.close()
    lane.take()
    lane.drop(INFERENCE, Reason.TOO_OLD)
    assert all(outlet.closed for outlet in lane.outlets.values())


def test_discarding_drops_what_waits_and_lets_what_is_inferred_through() -> None:
    lane = a_lane(BLOCK)
    for n in range(3):
        lane.offer(frame(n))
    taken = lane.take()
    assert taken is not None
    lane.discard()
    assert lane.take() is None
    assert lane.ledger.read().dropped[CAPTURE, Reason.SHUTDOWN] == 2
    lane.deliver(Result(taken, detections()))
    assert read(lane, EVENTS) == [0]
    assert lane.outlets[EVENTS].closed
    assert lane.ledger.read().balanced


def test_abandoning_writes_off_what_inference_held_and_lets_the_sinks_finish() -> None:
    lane = a_lane(BLOCK)
    for n in range(4):
        lane.offer(frame(n))
    infer(lane)
    lane.take()
    lane.abandon()
    dropped = lane.ledger.read().dropped
    assert (dropped[CAPTURE, Reason.SHUTDOWN], dropped[INFERENCE, Reason.SHUTDOWN]) == (2, 1)
    assert [read(lane, sink) for sink in SINKS] == [[0], [0]]
    assert all(outlet.closed for outlet in lane.outlets.values())
    book = lane.ledger.read()
    assert book.balanced
    assert not any(book.in_flight.values())


def test_a_lane_that_is_cut_short_drops_what_waits_for_its_sinks() -> None:
    lane = a_lane(BLOCK)
    for n in range(3):
        lane.offer(frame(n))
        infer(lane)
    assert lane.outlets[RECORD].take(), "the frame in hand"
    lane.abandon()
    lane.cut_short()
    assert [len(outlet) for outlet in lane.outlets.values()] == [0, 0]
    dropped = lane.ledger.read().dropped
    assert [dropped[sink, Reason.SHUTDOWN] for sink in SINKS] == [2, 3]
    lane.ledger.write(RECORD)
    book = lane.ledger.read()
    assert book.balanced
    assert not any(book.in_flight.values())


@pytest.mark.parametrize("reason", [Reason.TOO_OLD, Reason.FAILED])
def test_what_inference_drops_after_it_was_written_off_is_lost(reason: Reason) -> None:
    lane = a_lane()
    lane.offer(frame(0))
    lane.take()
    lane.abandon()
    before = lane.ledger.read()
    lane.drop(INFERENCE, reason)
    lane.skip()
    assert lane.ledger.read() == before


def test_what_inference_delivers_after_it_was_written_off_is_lost() -> None:
    """An inference that was only slow comes back when the stop has gone on without it."""
    lane = a_lane()
    lane.offer(frame(0))
    taken = lane.take()
    assert taken is not None
    lane.abandon()
    before = lane.ledger.read()
    lane.deliver(Result(taken, detections()))
    assert lane.ledger.read() == before
    assert len(lane.outlets[EVENTS]) == 0


def test_a_full_lane_holds_up_no_other() -> None:
    arrivals = Arrivals()
    full, free = (
        a_lane(BLOCK, depth=1, arrivals=arrivals),
        a_lane(BLOCK, depth=1, arrivals=arrivals),
    )
    full.offer(frame(0))
    thread, answers = offered_in_a_thread(full, frame(1))
    for n in range(3):
        assert free.offer(frame(n))
        assert infer(free) == n
        for sink in SINKS:
            assert read(free, sink) == [n]
    assert thread.is_alive()
    full.close()
    thread.join(WAIT_TIMEOUT)
    assert answers == [False]


def test_a_skipped_frame_is_captured_and_dropped() -> None:
    lane = a_lane()
    lane.skip()
    book = lane.ledger.read()
    assert (book.captured, book.dropped[CAPTURE, Reason.UNWANTED]) == (1, 1)
    assert book.balanced


def test_packets_go_past_inference_where_they_are_recorded() -> None:
    lane = a_lane(copies=True)
    assert lane.packets is not None
    for number in (1, 2, 3):
        lane.pass_packet(packet(number))
    assert len(lane.packets) == 3
    taken = [lane.packets.take() for _ in range(2)]
    assert [kept.number for kept in taken if kept is not None] == [1, 2]
    lane.close()
    lane.pass_packet(packet(4))
    assert [kept.number for kept in lane.packets] == [3]
    assert lane.ledger.read().captured == 0


def test_the_end_is_announced_as_urgent() -> None:
    lane, announced = a_lane(), list[bool]()
    lane._announce = announced.append
    lane.close()
    assert announced == [True]


def test_packets_that_nobody_records_go_nowhere() -> None:
    lane = a_lane()
    lane.pass_packet(packet(1))
    assert lane.packets is None


def test_packets_that_wait_for_the_recorder_hold_a_blocking_lane_up() -> None:
    lane = a_lane(BLOCK, depth=2, copies=True)
    assert lane.packets is not None
    for number in (1, 2):
        lane.pass_packet(packet(number))
    thread, answers = offered_in_a_thread(lane, frame(0))
    lane.packets.take()
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]


def large(number: int, height: int, width: int) -> Frame:
    """Return a frame that is large by its size, and takes no memory."""
    image = HostImage(np.broadcast_to(np.zeros(1, np.uint8), (height, width, 3)))
    return replace(frame(number), image=image)


@pytest.mark.parametrize("size", [(4320, 8192), (16_384, 16_384)], ids=["106 MB", "805 MB"])
def test_of_large_pictures_fewer_wait_for_a_sink_but_always_two(size: tuple[int, int]) -> None:
    lane = a_lane(depth=8, inbox=8)
    for number in range(6):
        lane.offer(frame(number))
        infer(lane)
    for number in range(6, 9):
        lane.offer(large(number, *size))
        infer(lane)
        assert len(lane.outlets[RECORD]) == 2
    assert read(lane, RECORD) == [7, 8]
    assert lane.ledger.read().dropped[RECORD, Reason.OVERFLOW] == 7


def test_eight_of_4k_may_wait() -> None:
    lane = a_lane(depth=8)
    for number in range(8):
        lane.offer(large(number, 2160, 3840))
        infer(lane)
    assert read(lane, RECORD) == list(range(8))


def test_a_waiting_capture_is_woken_when_an_eighth_of_the_lane_is_free() -> None:
    """Waking it for every frame would cost more than the frames do."""
    lane = a_lane(BLOCK, depth=16, sinks=(EVENTS,))
    for n in range(16):
        lane.offer(frame(n))
        infer(lane)
    thread, answers = offered_in_a_thread(lane, frame(16))
    lane.outlets[EVENTS].take()
    assert lane._room._waiters, "one frame is not an eighth"  # type: ignore[attr-defined]
    lane.outlets[EVENTS].take()
    thread.join(WAIT_TIMEOUT)
    assert answers == [True]


def test_a_lane_that_is_cut_short_drops_its_packets_and_hurries_its_sinks() -> None:
    lane = a_lane(copies=True)
    assert lane.packets is not None
    for number in (1, 2, 3):
        lane.pass_packet(packet(number))
    assert not lane.hurried
    lane.abandon()
    lane.cut_short()
    assert lane.hurried
    assert len(lane.packets) == 0


def test_a_lane_begins_open_with_nothing_in_it() -> None:
    arrivals = Arrivals()
    lane = Lane(
        "gate", DROP, depth=3, inbox=2, arrivals={MODEL: arrivals}, sinks=SINKS, max_frame_age=0.5
    )
    assert (lane.name, lane.backpressure, lane.depth, lane.max_frame_age) == ("gate", DROP, 3, 0.5)
    assert (lane.closed, lane.hurried, lane.waiting) == (False, False, 0)
    assert lane.status.state is StreamState.CONNECTING
    assert lane.inboxes[MODEL].drop_overdue(0.0) is None
    lane.offer(frame(4, captured_at=7.0))
    assert (lane.inboxes[MODEL].drop_overdue(7.5), lane.waiting) == (7.5, 1)


def test_what_is_overdue_is_dropped_and_what_waits_behind_it_is_not() -> None:
    lane = Lane(
        "a", DROP, depth=9, inbox=9, arrivals={MODEL: Arrivals()}, sinks=(), max_frame_age=1.0
    )
    for number, captured_at in enumerate([5.0, 6.0, 7.0]):
        lane.offer(frame(number, captured_at))
    assert lane.inboxes[MODEL].drop_overdue(7.0) == 7.0
    assert lane.ledger.read().dropped[INFERENCE, Reason.TOO_OLD] == 1
    assert infer(lane) == 1
    assert lane.inboxes[MODEL].drop_overdue(8.1) is None
    book = lane.ledger.read()
    assert (book.dropped[INFERENCE, Reason.TOO_OLD], lane.waiting) == (2, 0)
    assert book.balanced


def test_a_frame_that_is_offered_while_the_lane_closes_is_not_let_in() -> None:
    """The lane closes while capture waits for its lock, after its last look at the lane."""
    lane, begun, answers = a_lane(), threading.Event(), list[bool]()

    def offer() -> None:
        assert not lane.closed
        begun.set()
        answers.append(lane.offer(frame(0)))

    thread = threading.Thread(target=offer, daemon=True)
    with lane.lock:
        thread.start()
        assert begun.wait(WAIT_TIMEOUT)
        lane.close()
    thread.join(WAIT_TIMEOUT)
    assert answers == [False]
    assert lane.ledger.read().captured == 0


def test_no_stream_waits_for_the_lock_of_another() -> None:
    arrivals, locked = Arrivals(), threading.Event()
    one, other = (a_lane(arrivals=arrivals) for _ in range(2))
    done = threading.Event()

    def hold() -> None:
        with one.lock:
            locked.set()
            assert done.wait(WAIT_TIMEOUT)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert locked.wait(WAIT_TIMEOUT)
    assert other.offer(frame(0))
    assert infer(other) == 0
    other.close()
    done.set()
    thread.join(WAIT_TIMEOUT)


@pytest.mark.parametrize("backpressure", [BLOCK, DROP])
def test_a_sink_that_needs_no_pixels_gets_every_frame_without_them(
    backpressure: Backpressure,
) -> None:
    lane = a_lane(backpressure, depth=4, without_pixels=(EVENTS,))
    for n in range(4):
        assert lane.offer(frame(n))
        infer(lane)
    seen, unseen = ([lane.outlets[sink].take() for _ in range(4)] for sink in SINKS)
    assert [result.frame.frame_id for result in unseen if result] == [0, 1, 2, 3]
    for shown, hidden in zip(seen, unseen, strict=True):
        assert shown is not None
        assert hidden is not None
        assert shown.frame.image.pixels().size > 0
        assert hidden.frame.image.size == shown.frame.image.size
        with pytest.raises(RuntimeError, match="not passed on"):
            hidden.frame.image.pixels()


class WakeUps(Arrivals):
    """Counts how often the collector was woken."""

    count = 0

    def wake(self) -> None:
        self.count += 1
        super().wake()

    def after_each(self, *acts: Callable[[], object]) -> list[int]:
        """Act while the collector waits for two frames; return the count after each act."""
        while self.next():
            pass
        counts: list[int] = []

        def act(_: threading.Condition, __: float | None) -> None:
            for one in acts:
                one()
                counts.append(self.count)

        self.count = 0
        self.wait(2, None, act)
        return counts


def offers(*lanes: Lane) -> list[Callable[[], object]]:
    return [partial(lane.offer, frame()) for lane in lanes]


def test_the_collector_is_woken_once_by_enough_frames_of_any_lanes() -> None:
    arrivals = WakeUps()
    one, other = (a_lane(inbox=5, arrivals=arrivals) for _ in range(2))
    assert arrivals.after_each(*offers(one, other, one)) == [0, 1, 1]
    assert arrivals.after_each(*offers(other, other)) == [0, 1], "what it has seen doesn't count"


def test_the_collector_is_woken_by_a_full_lane_whose_lost_frames_do_not_count() -> None:
    arrivals = WakeUps()
    one, other = (a_lane(inbox=1, arrivals=arrivals), a_lane(inbox=3, arrivals=arrivals))
    assert arrivals.after_each(*offers(one)) == [1]
    assert arrivals.after_each(*offers(one, one, other, other)) == [0, 0, 0, 1]


def test_the_collector_is_woken_by_the_end_of_a_lane() -> None:
    arrivals = WakeUps()
    lane = a_lane(arrivals=arrivals)
    assert arrivals.after_each(lane.close) == [1]


def test_nobody_is_woken_who_does_not_wait() -> None:
    arrivals = WakeUps()
    lane = a_lane(inbox=1, arrivals=arrivals)
    lane.offer(frame(0))
    lane.close()
    assert arrivals.count == 0


def test_the_collector_does_not_wait_for_what_was_announced_before() -> None:
    arrivals, waits = Arrivals(), list[float | None]()
    a_lane(arrivals=arrivals).offer(frame(0))
    arrivals.wait(2, None, lambda _, timeout: waits.append(timeout))
    assert waits == []

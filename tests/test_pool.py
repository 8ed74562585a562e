"""The pool of writers: one thread for all streams, and a hung write costs only its own."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from centernetd.errors import SinkError
from centernetd.flow import (
    Arrivals,
    Backpressure,
    Lane,
    Reason,
    Result,
    StageName,
    TrackEvent,
    Worker,
)
from centernetd.sink.pool import PoolTask, WriterPool
from centernetd.sink.stage import IDLE, BatchStage, Outcome
from tests.fakes import MODEL, WAIT_TIMEOUT, detections, frame, refuse_if, wait_until

EVENTS = StageName("events")


class FakeSink:
    """Keeps the numbers of the frames it is given; strict about order and threads."""

    def __init__(self, *, idles: bool = False) -> None:
        """With `idles`, it may be closed and written to again."""
        self.idles = idles
        self.frames: list[int] = []
        self.events: list[TrackEvent] = []
        self.batches = 0
        self.threads: set[int] = set()
        self.closed = False
        self.broken = False
        self.open = threading.Event()
        """While it is clear, a write hangs."""
        self.open.set()
        self.hangs = threading.Event()
        self._busy = threading.Lock()

    def select(self, result: Result) -> Result | None:
        return None if result.frame.frame_id % 10 == 9 else result

    def write_batch(self, results: Sequence[Result], events: Sequence[TrackEvent] = ()) -> Outcome:
        refuse_if(self.closed and not self.idles)
        self.closed = False
        refuse_if(not self._busy.acquire(blocking=False), "two threads at once")
        try:
            self._hang()
            if self.broken:
                raise SinkError("the disk is full")
            self.batches += 1
            self.threads.add(threading.get_ident())
            self.events += events
            for result in results:
                refuse_if(bool(self.frames) and result.frame.frame_id <= self.frames[-1])
                self.frames.append(result.frame.frame_id)
        finally:
            self._busy.release()
        return Outcome(len(results))

    def close(self) -> Outcome:
        refuse_if(self.closed and not self.idles)
        self._hang()
        self.closed = True
        return Outcome()

    def _hang(self) -> None:
        if not self.open.is_set():
            self.hangs.set()
            assert self.open.wait(WAIT_TIMEOUT)


class Rig:
    """Some lanes whose events a pool writes."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.starve = False
        self.pool = WriterPool(EVENTS, self.make_worker)
        self.lanes: list[Lane] = []
        self.sinks: list[FakeSink] = []
        self.tasks: list[PoolTask] = []
        self.sent: dict[Lane, Iterator[int]] = {}

    def make_worker(self, name: str, run: Callable[[], None]) -> Worker:
        worker = Worker(name, run, lambda _: None)
        self.workers.append(worker)
        return worker

    def add(
        self,
        backpressure: Backpressure = Backpressure.BLOCK,
        depth: int = 1000,
        sink: FakeSink | None = None,
        patience: float = IDLE,
    ) -> FakeSink:
        lane = Lane(
            f"cam{len(self.lanes)}",
            backpressure,
            depth=depth,
            inbox=depth,
            arrivals={MODEL: Arrivals()},
            sinks=[EVENTS],
            announce=self.pool.announce,
        )
        sink = sink or FakeSink()
        stage = BatchStage(lane, EVENTS, sink, patience=patience)
        task = PoolTask(f"events:{lane.name}", stage, self.pool)
        self.lanes.append(lane)
        self.sinks.append(sink)
        self.tasks.append(task)
        self.sent[lane] = itertools.count()
        task.start()
        return sink

    def send(self, lane: Lane, count: int = 1) -> None:
        for _ in range(count):
            item = frame(next(self.sent[lane]))
            assert lane.offer(item)
            assert lane.take() is item
            lane.deliver(Result(item, detections()))

    def send_all(self, count: int = 1) -> None:
        for lane in self.lanes:
            self.send(lane, count)

    def written(self, lane: Lane) -> int:
        return lane.ledger.read().written[EVENTS]

    @property
    def alive(self) -> int:
        return sum(worker.alive for worker in self.workers)

    def finish(self) -> None:
        """Close everything; every task and thread ends, and every frame is accounted for."""
        for lane in self.lanes:
            lane.close()
        deadline = time.monotonic() + WAIT_TIMEOUT
        assert all(task.join(deadline) for task in self.tasks)
        self.pool.close()
        assert all(worker.join(deadline) for worker in self.workers)
        assert [worker.error for worker in self.workers] == [None] * len(self.workers)
        for lane, sink in zip(self.lanes, self.sinks, strict=True):
            book = lane.ledger.read()
            assert book.balanced
            assert not any(book.in_flight.values())
            assert book.written[EVENTS] == len(sink.frames)
            assert sink.closed


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for sink in rig.sinks:
        sink.open.set()
    rig.finish()


def test_two_threads_write_the_events_of_any_number_of_streams(rig: Rig) -> None:
    for _ in range(20):
        rig.add()
    for _ in range(30):
        rig.send_all(10)
    wait_until(lambda: all(rig.written(lane) == 270 for lane in rig.lanes))
    rig.finish()
    for lane, sink in zip(rig.lanes, rig.sinks, strict=True):
        assert sink.frames == [number for number in range(300) if number % 10 != 9]
        assert lane.ledger.read().dropped[EVENTS, Reason.UNWANTED] == 30
    assert {worker.name for worker in rig.workers} == {"events"}


def test_what_comes_within_a_moment_is_written_together(rig: Rig) -> None:
    sink = rig.add(Backpressure.DROP_OLDEST)
    rig.send(rig.lanes[0], 8)
    wait_until(lambda: len(sink.frames) == 8)
    assert sink.batches < 8


def test_a_live_outlet_that_fills_up_is_read_before_that_moment_is_over(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("centernetd.sink.pool._WINDOW", 2 * WAIT_TIMEOUT)
    sink = rig.add(Backpressure.DROP_OLDEST, depth=8)
    rig.send(rig.lanes[0], 3)
    assert sink.frames == []
    rig.send(rig.lanes[0])
    wait_until(lambda: len(sink.frames) == 4)


def test_a_lossless_stream_is_never_kept_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("centernetd.sink.pool._WINDOW", 2 * WAIT_TIMEOUT)
    sink = rig.add()
    rig.send(rig.lanes[0])
    wait_until(lambda: sink.frames == [0])


def test_an_output_that_has_been_idle_is_completed_although_nothing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("centernetd.sink.pool.IDLE", 0.01)
    rig = Rig()
    sink = rig.add(sink=FakeSink(idles=True), patience=0.01)
    rig.send(rig.lanes[0])
    wait_until(lambda: sink.closed)
    rig.send(rig.lanes[0])
    wait_until(lambda: sink.frames == [0, 1] and sink.closed)
    rig.finish()


def test_a_write_that_hangs_costs_only_its_stream(rig: Rig) -> None:
    hung = [rig.add(Backpressure.DROP_OLDEST, depth=8) for _ in range(3)]
    well = [rig.add() for _ in range(5)]
    for number, sink in enumerate(hung):
        sink.open.clear()
        rig.send(rig.lanes[number])
        assert sink.hangs.wait(WAIT_TIMEOUT)
        rig.send_all(6)
        wait_until(lambda: all(sink.frames[-1:] == [6 * number + 5] for sink in well))  # noqa: B023
    rig.send_all(50)
    wait_until(lambda: all(sink.frames[-1] == 67 for sink in well))
    assert rig.alive <= 2 + len(hung)
    for lane in rig.lanes[:3]:
        assert lane.ledger.read().dropped[EVENTS, Reason.OVERFLOW] > 0
        assert len(lane.outlets[EVENTS]) == 8, "as many wait as ever, and the newest"
    for sink in hung:
        sink.open.set()
    wait_until(lambda: all(sink.frames[-1:] == [68] for sink in hung))


def test_what_a_thread_that_hangs_had_not_come_to_is_written_without_further_ado(rig: Rig) -> None:
    """Nothing more arrives: time must tell that the first of them hangs."""
    first, second = (rig.add(Backpressure.DROP_OLDEST) for _ in range(2))
    first.open.clear()
    rig.send_all(1)
    assert first.hangs.wait(WAIT_TIMEOUT)
    wait_until(lambda: second.frames == [0])
    assert first.frames == []


def test_every_stream_may_hang_and_come_back(rig: Rig) -> None:
    sinks = [rig.add(Backpressure.DROP_OLDEST, depth=4) for _ in range(6)]
    for _ in range(3):
        for sink in sinks:
            sink.open.clear()
            sink.hangs.clear()
        rig.send_all(9)
        for sink in sinks:
            assert sink.hangs.wait(WAIT_TIMEOUT)
        assert rig.alive <= len(sinks) + 1
        for sink in sinks:
            sink.open.set()
        wait_until(lambda: all(not rig.lanes[n].outlets[EVENTS] for n in range(6)))
    wait_until(lambda: rig.alive == 2)


def test_a_stream_ends_while_others_hang(rig: Rig) -> None:
    hung, well = rig.add(), rig.add()
    hung.open.clear()
    rig.send_all(3)
    assert hung.hangs.wait(WAIT_TIMEOUT)
    for lane in rig.lanes:
        lane.close()
    assert rig.tasks[1].join(time.monotonic() + WAIT_TIMEOUT)
    assert (well.frames, well.closed) == ([0, 1, 2], True)
    assert rig.tasks[0].alive
    assert not rig.tasks[0].join(time.monotonic())


def test_an_output_that_fails_costs_only_its_stream(rig: Rig) -> None:
    bad, good = rig.add(), rig.add()
    bad.broken = True
    rig.send_all(5)
    wait_until(lambda: good.frames == [0, 1, 2, 3, 4])
    wait_until(lambda: rig.lanes[0].ledger.read().dropped[EVENTS, Reason.FAILED] == 5)


def test_a_stream_is_added_and_removed_while_others_run(rig: Rig) -> None:
    rig.add()
    rig.send_all()
    later = rig.add()
    rig.send_all(3)
    rig.lanes[0].close()
    assert rig.tasks[0].join(time.monotonic() + WAIT_TIMEOUT)
    rig.send(rig.lanes[1], 3)
    wait_until(lambda: later.frames == [0, 1, 2, 3, 4, 5])


def test_an_abandoned_stream_that_hangs_posts_nothing_when_it_returns(rig: Rig) -> None:
    sink = rig.add()
    sink.open.clear()
    (lane,) = rig.lanes
    rig.send(lane, 2)
    assert sink.hangs.wait(WAIT_TIMEOUT)
    lane.abandon()
    lane.cut_short()
    lane.ledger.close()
    before = lane.ledger.read()
    assert before.dropped[EVENTS, Reason.SHUTDOWN] == 2
    sink.open.set()
    assert rig.tasks[0].join(time.monotonic() + WAIT_TIMEOUT)
    assert lane.ledger.read() == before
    sink.frames.clear()  # they were written, but too late to be counted


def test_without_another_thread_the_last_one_writes_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hung, well = (rig.add(Backpressure.DROP_OLDEST) for _ in range(2))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    hung.open.clear()
    rig.send(rig.lanes[0])
    assert hung.hangs.wait(WAIT_TIMEOUT)
    for number in range(3):
        rig.send(rig.lanes[1])
        wait_until(lambda: well.frames[-1:] == [number])  # noqa: B023
    assert caplog.text.count("if another write hangs, every stream waits for it: no thread") == 1


def test_a_task_that_is_cancelled_never_begins(rig: Rig) -> None:
    sink = rig.add()
    stage = BatchStage(rig.lanes[0], EVENTS, FakeSink())
    task = PoolTask("events:late", stage, rig.pool)
    task.cancel()
    task.start()
    assert not task.alive
    assert task.join(time.monotonic())
    rig.send_all()
    wait_until(lambda: sink.frames == [0])


def happened(track_id: str) -> TrackEvent:
    return TrackEvent("start", track_id, 1, "face", 0.9, 0.0, 0.0, (0.0, 0.0, 1.0, 1.0), (4, 4))


def test_what_happened_to_tracks_is_written_even_of_frames_that_are_not_wanted(
    rig: Rig,
) -> None:
    sink = rig.add()
    (lane,) = rig.lanes
    first, last = happened("a"), happened("b")
    item = frame(9)
    assert lane.offer(item)
    assert lane.take() is item
    lane.deliver(Result(item, detections(), (first,)))
    lane.report([last])
    wait_until(lambda: len(sink.events) == 2)
    assert sink.events == [first, last]
    assert sink.frames == []


def test_what_happens_at_the_end_of_a_stream_is_written_before_it_is_closed(rig: Rig) -> None:
    sink = rig.add()
    (lane,) = rig.lanes
    lane.epilogue = lambda: [happened("a")] if not sink.events else []
    rig.send(lane)
    lane.close()
    wait_until(lambda: sink.closed)
    assert [event.track_id for event in sink.events] == ["a"]

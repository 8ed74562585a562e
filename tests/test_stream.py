"""The watch over captures and sinks: lost threads are replaced, hung sinks reported."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Literal, cast

import pytest

from centernetd.capture.stage import CaptureStage
from centernetd.config import RecordConfig, SourceUri, StreamConfig
from centernetd.flow import Arrivals, Backpressure, Budget, Lane, StageName, Worker
from centernetd.inference.filter import StreamFilter
from centernetd.run.loading import Sizes
from centernetd.run.stream import HUNG_AFTER, MAX_LOST, Stream, StreamContext, make_lane
from centernetd.sink.pool import WriterPool
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import SinkStage
from tests.fakes import MODEL, WAIT_TIMEOUT, only, wait_until


class FakeCapture:
    """A capture of which every thread hangs until it is let go; ``lost`` makes it lost."""

    def __init__(self) -> None:
        self.lost = False
        self.gates: list[threading.Event] = []
        self.running = 0

    def run(self) -> None:
        gate = threading.Event()
        self.gates.append(gate)
        assert gate.wait(WAIT_TIMEOUT)

    def watch(self) -> bool:
        lost, self.lost = self.lost, False
        return lost


class FakeSink:
    """A sink that has been busy for as long as the test wants."""

    busy_for = 0.0

    def run(self) -> None:
        """Never started here."""


def make_worker(name: str, run: Callable[[], None]) -> Worker:
    return Worker(name, run, lambda _: None)


def make_stream(lane: Lane, capture: FakeCapture, sinks: Mapping[StageName, FakeSink]) -> Stream:
    """Return a stream of these stages."""
    return Stream(
        StreamConfig(lane.name, SourceUri("rtsp://192.0.2.1/s")),
        lane,
        only(StreamFilter(0.4, None, ())),
        cast(CaptureStage, capture),
        {name: cast(SinkStage, sink) for name, sink in sinks.items()},
        None,
        cast(StreamContext, SimpleNamespace(writers={EVENTS: WriterPool(EVENTS, make_worker)})),
        threading.Event(),
        make_worker,
    )


class Rig:
    """A stream, every capture of which hangs."""

    def __init__(self) -> None:
        self.capture = FakeCapture()
        self.record, self.events = FakeSink(), FakeSink()
        self.lane = Lane(
            "gate",
            Backpressure.DROP_OLDEST,
            depth=4,
            inbox=2,
            arrivals={MODEL: Arrivals()},
            sinks=[RECORD, EVENTS],
        )
        sinks = {RECORD: self.record, EVENTS: self.events}
        self.stream = make_stream(self.lane, self.capture, sinks)
        self.stream.check()

    @property
    def lost_threads(self) -> int:
        return self.lane.status.lost_threads

    def lose(self, started: int) -> None:
        """Lose the thread that reads; once that many have been started."""
        wait_until(lambda: len(self.capture.gates) == started)
        self.capture.lost = True
        self.stream.check()

    def come_back(self, number: int) -> None:
        """Let a thread return."""
        thread = self.stream.captures[number]
        self.capture.gates[number].set()
        assert thread.join(time.monotonic() + WAIT_TIMEOUT)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for gate in rig.capture.gates:
        gate.set()


def test_a_lost_thread_is_replaced_and_counted_until_it_returns(rig: Rig) -> None:
    rig.stream.check()
    assert (len(rig.stream.captures), rig.lost_threads) == (1, 0)
    rig.lose(started=1)
    wait_until(lambda: len(rig.capture.gates) == 2)
    rig.stream.check()
    assert (len(rig.stream.captures), rig.lost_threads) == (2, 1)
    rig.come_back(0)
    rig.stream.check()
    assert (len(rig.stream.captures), rig.lost_threads) == (1, 0)


def test_lost_threads_are_bounded(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for started in range(1, MAX_LOST + 1):
        rig.lose(started)
    for _ in range(5):
        rig.stream.check()
    assert len(rig.capture.gates) == MAX_LOST
    assert rig.lost_threads == MAX_LOST
    assert caplog.text.count("stays stuck until one of them returns") == 1
    rig.come_back(1)
    rig.stream.check()
    wait_until(lambda: len(rig.capture.gates) == MAX_LOST + 1)
    rig.stream.check()
    assert rig.lost_threads == MAX_LOST - 1


def test_a_lost_capture_waits_until_the_system_has_a_thread(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        rig.lose(started=1)
        rig.stream.check()
    assert (
        caplog.text.count("capture waits: no thread for capture:gate: can't start new thread") == 1
    )
    assert (len(rig.stream.captures), rig.lost_threads) == (1, 1)
    rig.stream.check()
    wait_until(lambda: len(rig.capture.gates) == 2)


def test_a_stream_that_is_stopped_before_its_start_leaves_no_thread(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_stream(rig.lane, rig.capture, {})
    other.prepare()
    prepared = other._next
    assert prepared is not None
    assert prepared.alive
    other.stop()
    assert prepared.join(time.monotonic() + WAIT_TIMEOUT)
    assert len(rig.capture.gates) <= 1, "it never read"


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_an_ended_capture_is_not_replaced(rig: Rig) -> None:
    wait_until(lambda: len(rig.capture.gates) == 1)
    rig.come_back(0)
    rig.stream.check()
    assert rig.stream.captures == []
    assert rig.lost_threads == 0


def test_a_sink_that_hangs_makes_its_stream_stuck(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    view = rig.stream.view
    rig.record.busy_for = HUNG_AFTER - 0.1
    rig.stream.check()
    assert not rig.lane.status.hung_sinks
    rig.record.busy_for = HUNG_AFTER
    for _ in range(3):
        rig.stream.check()
    assert view.state.value == "stuck"
    assert view.last_error == "hung in a write: record"
    assert caplog.text.count("stuck: record has hung in a write for 20 s") == 1
    rig.events.busy_for = HUNG_AFTER + 5
    rig.stream.check()
    assert view.last_error == "hung in a write: record, events"
    rig.record.busy_for = rig.events.busy_for = 0.0
    rig.stream.check()
    assert view.last_error is None
    assert caplog.text.count("has returned from a write") == 2


class FakePool:
    """Notes what is announced to it."""

    def __init__(self) -> None:
        self.announced: list[bool] = []

    def announce(self, urgent: bool) -> None:
        self.announced.append(urgent)


@pytest.mark.parametrize(("video", "told"), [("source", [True]), ("annotated", [])])
def test_only_pools_that_write_for_a_stream_are_told_of_it(
    video: Literal["source", "annotated"], told: list[bool]
) -> None:
    record = RecordConfig(video=video, draw=())
    stream = StreamConfig("gate", SourceUri("rtsp://192.0.2.1/s"), policy="live", record=record)
    pools = {RECORD: FakePool(), EVENTS: FakePool()}
    writers = cast(Mapping[StageName, WriterPool], pools)
    lane = make_lane(stream, Sizes(4, 4), {MODEL: Arrivals()}, Budget(1, lambda: 1), writers)
    lane.close()
    assert (pools[RECORD].announced, pools[EVENTS].announced) == (told, [True])

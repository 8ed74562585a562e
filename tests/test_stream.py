"""The watch over captures and sinks: lost threads are replaced, hung sinks reported."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import pytest

from centernetd.capture.stage import CaptureStage
from centernetd.config import SourceUri, StreamConfig
from centernetd.flow import Arrivals, Backpressure, Lane, StageName, Worker
from centernetd.inference.filter import StreamFilter
from centernetd.run.stream import HUNG_AFTER, MAX_LOST, Stream
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import SinkStage
from tests.fakes import PATIENCE, wait_until


class FakeCapture:
    """A capture of which every thread hangs until it is let go; ``lost`` makes it lost."""

    def __init__(self) -> None:
        self.lost = False
        self.gates: list[threading.Event] = []
        self.running = 0

    def run(self) -> None:
        gate = threading.Event()
        self.gates.append(gate)
        assert gate.wait(PATIENCE)

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
        StreamFilter(0.4, None, ()),
        cast(CaptureStage, capture),
        {name: cast(SinkStage, sink) for name, sink in sinks.items()},
        threading.Event(),
        make_worker,
    )


class House:
    """A stream, every capture of which hangs."""

    def __init__(self) -> None:
        self.capture = FakeCapture()
        self.record, self.events = FakeSink(), FakeSink()
        self.lane = Lane(
            "gate",
            Backpressure.DROP_OLDEST,
            depth=4,
            inbox=2,
            arrivals=Arrivals(),
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
        assert thread.join(time.monotonic() + PATIENCE)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for gate in house.capture.gates:
        gate.set()


def test_a_lost_thread_is_replaced_and_counted_until_it_returns(house: House) -> None:
    house.stream.check()
    assert (len(house.stream.captures), house.lost_threads) == (1, 0)
    house.lose(started=1)
    wait_until(lambda: len(house.capture.gates) == 2)
    house.stream.check()
    assert (len(house.stream.captures), house.lost_threads) == (2, 1)
    house.come_back(0)
    house.stream.check()
    assert (len(house.stream.captures), house.lost_threads) == (1, 0)


def test_lost_threads_are_bounded(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for started in range(1, MAX_LOST + 1):
        house.lose(started)
    for _ in range(5):
        house.stream.check()
    assert len(house.capture.gates) == MAX_LOST
    assert house.lost_threads == MAX_LOST
    assert caplog.text.count("stays stuck until one of them returns") == 1
    house.come_back(1)
    house.stream.check()
    wait_until(lambda: len(house.capture.gates) == MAX_LOST + 1)
    house.stream.check()
    assert house.lost_threads == MAX_LOST - 1


def test_a_lost_capture_waits_until_the_system_has_a_thread(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        house.lose(started=1)
        house.stream.check()
    assert (
        caplog.text.count("capture waits: no thread for capture:gate: can't start new thread") == 1
    )
    assert (len(house.stream.captures), house.lost_threads) == (1, 1)
    house.stream.check()
    wait_until(lambda: len(house.capture.gates) == 2)


def test_a_stream_that_is_stopped_before_its_start_leaves_no_thread(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_stream(house.lane, house.capture, {})
    other.prepare()
    prepared = other._next
    assert prepared is not None
    assert prepared.alive
    other.stop()
    assert prepared.join(time.monotonic() + PATIENCE)
    assert len(house.capture.gates) <= 1, "it never read"


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_an_ended_capture_is_not_replaced(house: House) -> None:
    wait_until(lambda: len(house.capture.gates) == 1)
    house.come_back(0)
    house.stream.check()
    assert house.stream.captures == []
    assert house.lost_threads == 0


def test_a_sink_that_hangs_makes_its_stream_stuck(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    view = house.stream.view
    house.record.busy_for = HUNG_AFTER - 0.1
    house.stream.check()
    assert not house.lane.status.hung_sinks
    house.record.busy_for = HUNG_AFTER
    for _ in range(3):
        house.stream.check()
    assert view.state.value == "stuck"
    assert view.last_error == "hung in a write: record"
    assert caplog.text.count("stuck: record has hung in a write for 20 s") == 1
    house.events.busy_for = HUNG_AFTER + 5
    house.stream.check()
    assert view.last_error == "hung in a write: record, events"
    house.record.busy_for = house.events.busy_for = 0.0
    house.stream.check()
    assert view.last_error is None
    assert caplog.text.count("has returned from a write") == 2

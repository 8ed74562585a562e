"""The watch over captures and sinks: lost threads are replaced, hung sinks told."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import pytest

from centernetd.capture.stage import CaptureStage
from centernetd.config import SourceUri, StreamConfig
from centernetd.flow import Backpressure, Lane, StageName, Worker
from centernetd.inference.wanted import Wanted
from centernetd.run.crew import HUNG_AFTER, MOST_LOST, StreamCrew
from centernetd.run.pipeline import StreamStages
from centernetd.service.health import StreamView
from centernetd.sink.stage import SinkStage
from tests.fakes import PATIENCE, wait_until


class FakeCapture:
    """A capture of which every thread hangs until it is let go; it is lost when told so."""

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
    """A sink that has been busy for as long as the test says."""

    busy_for = 0.0

    def run(self) -> None:
        """Never started here."""


def stages_around(
    lane: Lane, capture: FakeCapture, sinks: Mapping[StageName, FakeSink]
) -> StreamStages:
    """Return what a crew is made of."""
    return StreamStages(
        stream=StreamConfig(lane.name, SourceUri("rtsp://192.0.2.1/s")),
        lane=lane,
        wanted=Wanted(0.4, None, ()),
        capture=cast(CaptureStage, capture),
        sinks={name: cast(SinkStage, sink) for name, sink in sinks.items()},
        stop=threading.Event(),
    )


class House:
    """A crew of one stream."""

    def __init__(self) -> None:
        self.capture = FakeCapture()
        self.record, self.events = FakeSink(), FakeSink()
        self.lane = Lane(
            "gate",
            Backpressure.DROP_OLDEST,
            depth=4,
            inbox=2,
            ready=threading.Condition(),
            sinks=[StageName.RECORD, StageName.EVENTS],
        )
        sinks = {StageName.RECORD: self.record, StageName.EVENTS: self.events}
        stages = stages_around(self.lane, self.capture, sinks)
        self.crew = StreamCrew(stages, self._make)
        self.crew.look()

    @staticmethod
    def _make(name: str, run: Callable[[], None]) -> Worker:
        return Worker(name, run, lambda _: None)

    @property
    def lost_threads(self) -> int:
        return self.lane.status.lost_threads

    def lose(self, started: int) -> None:
        """Lose the thread that reads; so many have been started then."""
        wait_until(lambda: len(self.capture.gates) == started)
        self.capture.lost = True
        self.crew.look()

    def come_back(self, number: int) -> None:
        """Let a thread return."""
        thread = self.crew.captures[number]
        self.capture.gates[number].set()
        assert thread.join(time.monotonic() + PATIENCE)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for gate in house.capture.gates:
        gate.set()


def test_a_lost_thread_is_replaced_and_counted_until_it_returns(house: House) -> None:
    house.crew.look()
    assert (len(house.crew.captures), house.lost_threads) == (1, 0)
    house.lose(started=1)
    wait_until(lambda: len(house.capture.gates) == 2)
    house.crew.look()
    assert (len(house.crew.captures), house.lost_threads) == (2, 1)
    house.come_back(0)
    house.crew.look()
    assert (len(house.crew.captures), house.lost_threads) == (1, 0)


def test_lost_threads_are_bounded(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for started in range(1, MOST_LOST + 1):
        house.lose(started)
    for _ in range(5):
        house.crew.look()
    assert len(house.capture.gates) == MOST_LOST
    assert house.lost_threads == MOST_LOST
    assert caplog.text.count("stays stuck until one comes back") == 1
    house.come_back(1)
    house.crew.look()
    wait_until(lambda: len(house.capture.gates) == MOST_LOST + 1)
    house.crew.look()
    assert house.lost_threads == MOST_LOST - 1


def test_a_lost_capture_waits_for_a_thread_to_be_had(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        house.lose(started=1)
        house.crew.look()
    assert caplog.text.count("it waits: no thread for capture:gate: can't start new thread") == 1
    assert (len(house.crew.captures), house.lost_threads) == (1, 1)
    house.crew.look()
    wait_until(lambda: len(house.capture.gates) == 2)


def test_a_crew_that_is_stopped_before_its_start_leaves_no_thread(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stages_around(house.lane, house.capture, {})
    other = StreamCrew(stages, house._make)
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
    house.crew.look()
    assert house.crew.captures == []
    assert house.lost_threads == 0


def test_a_sink_that_hangs_makes_its_stream_stuck(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    view = StreamView(house.lane, stall_timeout=10.0)
    house.record.busy_for = HUNG_AFTER - 0.1
    house.crew.look()
    assert not house.lane.status.hung_sinks
    house.record.busy_for = HUNG_AFTER
    for _ in range(3):
        house.crew.look()
    assert view.state.value == "stuck"
    assert view.last_error == "hung in a write: record"
    assert caplog.text.count("stuck: record has hung in a write for 20 s") == 1
    house.events.busy_for = HUNG_AFTER + 5
    house.crew.look()
    assert view.last_error == "hung in a write: record, events"
    house.record.busy_for = house.events.busy_for = 0.0
    house.crew.look()
    assert view.last_error is None
    assert caplog.text.count("has come back from a write") == 2

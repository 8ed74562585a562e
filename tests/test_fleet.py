"""The streams of a run: threads that a changed stream has lost stay in sight."""

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from centernetd.config import SourceUri, StreamConfig
from centernetd.config.config import Difference
from centernetd.flow import Backpressure, Lane, StreamState, Worker
from centernetd.inference.stage import InferenceStage
from centernetd.run import fleet as fleets
from centernetd.run.crew import MOST_LOST
from centernetd.run.fleet import Fleet
from centernetd.run.pipeline import StreamStages
from centernetd.service.service import Service
from tests.fakes import wait_until
from tests.test_crew import FakeCapture, stages_around

GATE = StreamConfig("gate", SourceUri("rtsp://192.0.2.1/s"))


class FakeInference:
    """Serves and forgets lanes without looking at them."""

    def serve(self, *_: object) -> None:
        """Take a lane."""

    def forget(self, *_: object) -> None:
        """Give it up."""


class FakeService:
    """Shows nobody anything."""

    def show(self, *_: object) -> None:
        """Take the streams."""


class House:
    """A fleet of one stream, every capture of which hangs."""

    def __init__(self) -> None:
        self.captures: list[FakeCapture] = []
        self.lanes: list[Lane] = []
        first = self.stages()
        self.lanes.append(first.lane)
        self.fleet = Fleet(
            self.lanes,
            [first],
            cast(InferenceStage, FakeInference()),
            lambda name, run: Worker(name, run, lambda _: None),
            cast(Service, FakeService()),
        )
        self.fleet.start()

    def stages(self) -> StreamStages:
        self.captures.append(FakeCapture())
        ready = threading.Condition()
        lane = Lane("gate", Backpressure.DROP_OLDEST, depth=4, inbox=2, ready=ready, sinks=[])
        return stages_around(lane, self.captures[-1], {})

    def reload(self, change: Difference) -> None:
        self.fleet.follow(change, {"gate": GATE}, lambda _: self.stages())
        self.fleet.look()
        assert self.fleet.settled

    def change(self) -> None:
        self.reload(Difference(added=(), removed=(), changed=("gate",)))

    def remove(self) -> None:
        self.reload(Difference(added=(), removed=("gate",), changed=()))

    def add(self) -> None:
        self.reload(Difference(added=("gate",), removed=(), changed=()))

    @property
    def lost_threads(self) -> int:
        return self.lanes[0].status.lost_threads

    @property
    def started(self) -> int:
        return sum(len(capture.gates) for capture in self.captures)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(fleets, "PATIENCE", 0.0)
    house = House()
    yield house
    for capture in house.captures:
        for gate in capture.gates:
            gate.set()


def test_reloads_lose_no_more_threads_of_a_stream_than_it_may_lose(house: House) -> None:
    for reloads in range(1, 2 * MOST_LOST):
        house.change()
        assert len(house.fleet.threads) == min(reloads + 1, MOST_LOST)
    house.remove()
    house.add()
    assert len(house.fleet.threads) == MOST_LOST
    wait_until(lambda: house.started == MOST_LOST)
    assert house.lost_threads == MOST_LOST
    assert house.lanes[0].status.state is StreamState.STUCK


def test_a_thread_that_comes_back_makes_room_for_another(house: House) -> None:
    for _ in range(MOST_LOST):
        house.change()
    wait_until(lambda: house.started == MOST_LOST)
    house.captures[0].gates[0].set()

    def read_again() -> bool:
        house.fleet.look()
        return house.started == MOST_LOST + 1

    wait_until(read_again)
    house.fleet.look()
    assert len(house.fleet.threads) == MOST_LOST
    assert house.lost_threads == MOST_LOST - 1


def test_threads_of_a_stream_that_is_gone_are_forgotten_when_they_end(house: House) -> None:
    wait_until(lambda: house.started == 1)
    house.remove()
    assert len(house.fleet.threads) == 1
    house.captures[0].gates[0].set()

    def forgotten() -> bool:
        house.fleet.look()
        return not house.fleet.threads

    wait_until(forgotten)

"""The streams of a run: threads that a changed stream has lost stay in sight."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, cast

import pytest

from centernetd.config import SourceUri, StreamConfig
from centernetd.config.config import Difference
from centernetd.flow import Arrivals, Backpressure, Lane, StreamState
from centernetd.run import streams as streams_module
from centernetd.run.models import Model, Models
from centernetd.run.stream import MAX_LOST, Stream
from centernetd.run.streams import Streams
from centernetd.service.service import Service
from tests.fakes import MODEL, wait_until
from tests.test_stream import FakeCapture, make_stream

GATE = StreamConfig("gate", SourceUri("rtsp://192.0.2.1/s"))


class FakeModels:
    """Serves and forgets lanes without looking at them."""

    current: ClassVar[Mapping[str, Model]] = {}

    def serve(self, *_: object) -> None:
        """Take a lane."""

    def forget(self, *_: object) -> None:
        """Give it up."""


class FakeService:
    """Shows nobody anything."""

    def publish(self, *_: object) -> None:
        """Take the streams."""


class Rig:
    """The streams of a run: one, every capture of which hangs."""

    def __init__(self) -> None:
        self.captures: list[FakeCapture] = []
        self.streams = Streams(
            [self.make(GATE)],
            self.make,
            cast(Models, FakeModels()),
            cast(Service, FakeService()),
        )
        self.streams.start()

    def make(self, _: StreamConfig) -> Stream:
        self.captures.append(FakeCapture())
        arrivals = Arrivals()
        lane = Lane(
            "gate", Backpressure.DROP_OLDEST, depth=4, inbox=2, arrivals={MODEL: arrivals}, sinks=[]
        )
        return make_stream(lane, self.captures[-1], {})

    def reload(self, change: Difference) -> None:
        self.streams.apply(change, {"gate": GATE})
        self.streams.check()
        assert self.streams.settled

    def change(self) -> None:
        self.reload(Difference(added=(), removed=(), changed=("gate",)))

    def remove(self) -> None:
        self.reload(Difference(added=(), removed=("gate",), changed=()))

    def add(self) -> None:
        self.reload(Difference(added=("gate",), removed=(), changed=()))

    @property
    def lane(self) -> Lane:
        (lane,) = self.streams.lanes
        return lane

    @property
    def lost_threads(self) -> int:
        return self.lane.status.lost_threads

    @property
    def started(self) -> int:
        return sum(len(capture.gates) for capture in self.captures)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(streams_module, "END_TIMEOUT", 0.0)
    rig = Rig()
    yield rig
    for capture in rig.captures:
        for gate in capture.gates:
            gate.set()


def test_reloads_lose_no_more_threads_of_a_stream_than_it_may_lose(rig: Rig) -> None:
    for reloads in range(1, 2 * MAX_LOST):
        rig.change()
        assert len(rig.streams.threads) == min(reloads + 1, MAX_LOST)
    rig.remove()
    rig.add()
    assert len(rig.streams.threads) == MAX_LOST
    wait_until(lambda: rig.started == MAX_LOST)
    assert rig.lost_threads == MAX_LOST
    assert rig.lane.status.state is StreamState.STUCK


def test_a_thread_that_comes_back_makes_room_for_another(rig: Rig) -> None:
    for _ in range(MAX_LOST):
        rig.change()
    wait_until(lambda: rig.started == MAX_LOST)
    rig.captures[0].gates[0].set()

    def read_again() -> bool:
        rig.streams.check()
        return rig.started == MAX_LOST + 1

    wait_until(read_again)
    rig.streams.check()
    assert len(rig.streams.threads) == MAX_LOST
    assert rig.lost_threads == MAX_LOST - 1


def test_threads_of_a_stream_that_is_gone_are_forgotten_when_they_end(rig: Rig) -> None:
    wait_until(lambda: rig.started == 1)
    rig.remove()
    assert len(rig.streams.threads) == 1
    rig.captures[0].gates[0].set()

    def forgotten() -> bool:
        rig.streams.check()
        return not rig.streams.threads

    wait_until(forgotten)

"""What is said of streams that lose frames, on real lanes through which frames go by hand."""

import logging
import threading

import pytest

from daemon.flow import Backpressure, Lane, Reason, Result, StageName
from daemon.service.overload import PERIOD, Overload
from tests.fakes import detections, frame


class House:
    """One live lane and what is said of it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self._caplog = caplog
        self._overload = Overload()
        self._now = 500.0
        self.lane = Lane(
            "gate",
            Backpressure.DROP_OLDEST,
            depth=2,
            inbox=2,
            ready=threading.Condition(),
            sinks=[StageName.RECORD],
        )
        self.hear(0)

    def hear(self, seconds: float = PERIOD) -> list[str]:
        """Let time pass; returns what is said then."""
        self._caplog.clear()
        self._now += seconds
        self._overload.tick([self.lane], self._now)
        assert {getattr(record, "stream", None) for record in self._caplog.records} <= {"gate"}
        return [f"{r.levelname} {r.getMessage()}" for r in self._caplog.records]

    def infer(self, count: int) -> None:
        for number in range(count):
            self.lane.offer(frame(number))
            taken = self.lane.take()
            assert taken is not None
            self.lane.deliver(Result(taken, detections()))


@pytest.fixture
def house(caplog: pytest.LogCaptureFixture) -> House:
    return House(caplog)


def test_a_line_a_period_tells_the_rates(house: House) -> None:
    for number in range(52):
        house.lane.offer(frame(number))
    assert house.hear(PERIOD / 2) == []
    said = (
        "WARNING detection can't keep up: 5.0 of 5.2 frames/s dropped; "
        "set detect.max_fps, or run fewer streams"
    )
    assert house.hear(PERIOD / 2) == [said]
    assert house.hear() == ["INFO detection keeps up again"]
    assert house.hear() == []


def test_frames_that_grew_too_old_count_as_well(house: House) -> None:
    for number in range(20):
        house.lane.offer(frame(number))
        house.lane.take()
        house.lane.drop(StageName.INFERENCE, Reason.TOO_OLD)
    (said,) = house.hear()
    assert "detection can't keep up: 2.0 of 2.0 frames/s dropped" in said


def test_a_slow_sink_is_told_from_slow_detection(house: House) -> None:
    house.infer(12)
    assert house.hear() == [
        "WARNING record can't keep up: 1.0 of 1.2 frames/s dropped; "
        "its encoder or its disk is too slow"
    ]


def test_what_nobody_wants_is_no_trouble(house: House) -> None:
    for _ in range(50):
        house.lane.skip()
    assert house.hear() == []


def test_a_stream_that_was_replaced_begins_anew(house: House) -> None:
    for number in range(52):
        house.lane.offer(frame(number))
    house.hear()
    house.lane = House(house._caplog).lane
    assert house.hear() == []

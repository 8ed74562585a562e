"""What is said of streams that lose frames, on real lanes through which frames go by hand."""

import logging

import pytest

from centernetd.flow import INFERENCE, Arrivals, Backpressure, Lane, Reason, Result
from centernetd.service.overload import CALM, PERIOD, REMINDER, Overload
from centernetd.sink.registry import RECORD
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
            arrivals=Arrivals(),
            sinks=[RECORD],
        )
        self.hear(0)

    def hear(self, seconds: float = PERIOD) -> list[str]:
        """Let time pass; returns what is said then."""
        self._caplog.clear()
        self._now += seconds
        self._overload.tick([self.lane], self._now)
        assert {getattr(record, "stream", None) for record in self._caplog.records} <= {"gate"}
        return [f"{r.levelname} {r.getMessage()}" for r in self._caplog.records]

    def hear_for(self, seconds: float) -> list[str]:
        """Let time pass period by period; returns all that is said."""
        return [line for _ in range(round(seconds / PERIOD)) for line in self.hear()]

    def lose(self, count: int) -> None:
        """Have ``count`` frames dropped before inference."""
        for number in range(count + 2 - self.lane.ledger.waiting):
            self.lane.offer(frame(number))

    def infer(self, count: int) -> None:
        for number in range(count):
            self.lane.offer(frame(number))
            taken = self.lane.take()
            assert taken is not None
            self.lane.deliver(Result(taken, detections()))


@pytest.fixture
def house(caplog: pytest.LogCaptureFixture) -> House:
    return House(caplog)


def test_a_loss_is_logged_once_and_its_end_after_a_while(house: House) -> None:
    house.lose(50)
    assert house.hear(PERIOD / 2) == []
    assert house.hear(PERIOD / 2) == [
        "WARNING detection can't keep up: 50 of 52 frames dropped in 10 s; "
        "set a lower detect.max_fps, or run fewer streams"
    ]
    assert house.hear_for(CALM - PERIOD) == []
    assert house.hear() == ["INFO detection keeps up again"]
    assert house.hear_for(2 * REMINDER) == []


def test_losses_that_come_and_go_are_logged_once_an_hour_and_none_is_left_out(
    house: House,
) -> None:
    """8,640 periods, in every second of which frames are lost: a day of one slow camera."""
    said = []
    for _ in range(4320):
        house.lose(2)
        said += [*house.hear(), *house.hear()]
    assert len(said) == 24
    assert all("WARNING detection can't keep up" in line for line in said)
    dropped = [int(line.split(": ")[1].split(" of ")[0]) for line in said]
    assert dropped == [2, *[360] * 23]
    assert " in 60 min; " in said[1]


@pytest.mark.parametrize("pause", [CALM + PERIOD, REMINDER / 2, 2 * REMINDER])
def test_a_return_to_normal_is_logged_once_per_warning(house: House, pause: float) -> None:
    said = []
    for _ in range(20):
        house.lose(2)
        said += house.hear_for(pause)
    levels = [line.split()[0] for line in said]
    assert levels == ["WARNING", "INFO"] * (len(levels) // 2)
    assert len(levels) // 2 == min(20, round(20 * pause / REMINDER + 0.5))


def test_frames_that_grew_too_old_count_as_well(house: House) -> None:
    for number in range(20):
        house.lane.offer(frame(number))
        house.lane.take()
        house.lane.drop(INFERENCE, Reason.TOO_OLD)
    (said,) = house.hear()
    assert "detection can't keep up: 20 of 20 frames dropped" in said


def test_a_slow_sink_is_told_from_slow_detection(house: House) -> None:
    house.infer(12)
    assert house.hear() == [
        "WARNING record can't keep up: 10 of 12 frames dropped in 10 s; "
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

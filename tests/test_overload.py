"""What is logged about streams that lose frames, on real lanes through which frames go by hand."""

import logging

import pytest

from centernetd.flow import INFERENCE, Arrivals, Backpressure, Lane, Reason, Result
from centernetd.service.overload import CALM, PERIOD, REMINDER, Overload
from centernetd.sink.registry import RECORD
from tests.fakes import MODEL, detections, frame


class Rig:
    """One live lane and what is logged about it."""

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
            arrivals={MODEL: Arrivals()},
            sinks=[RECORD],
        )
        self.hear(0)

    def hear(self, seconds: float = PERIOD) -> list[str]:
        """Let time pass; returns what is logged then."""
        self._caplog.clear()
        self._now += seconds
        self._overload.tick([self.lane], self._now)
        assert {getattr(record, "stream", None) for record in self._caplog.records} <= {"gate"}
        return [f"{r.levelname} {r.getMessage()}" for r in self._caplog.records]

    def hear_for(self, seconds: float) -> list[str]:
        """Let time pass period by period; returns all that is logged."""
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
def rig(caplog: pytest.LogCaptureFixture) -> Rig:
    return Rig(caplog)


def test_a_loss_is_logged_once_and_its_end_after_a_while(rig: Rig) -> None:
    rig.lose(50)
    assert rig.hear(PERIOD / 2) == []
    assert rig.hear(PERIOD / 2) == [
        "WARNING detection can't keep up: 50 of 52 frames dropped in 10 s; "
        "set a lower detect.max_fps, or run fewer streams"
    ]
    assert rig.hear_for(CALM - PERIOD) == []
    assert rig.hear() == ["INFO detection keeps up again"]
    assert rig.hear_for(2 * REMINDER) == []


def test_frames_that_were_waiting_count_as_frames_that_could_be_lost(rig: Rig) -> None:
    rig.infer(1)
    rig.lose(0)  # two wait
    rig.hear()
    for _ in range(2):
        assert rig.lane.take() is not None
        rig.lane.drop(INFERENCE, Reason.TOO_OLD)
    assert rig.hear()[0].startswith("WARNING detection can't keep up: 2 of 2 frames dropped")


def test_losses_that_come_and_go_are_logged_once_an_hour_and_none_is_left_out(
    rig: Rig,
) -> None:
    """8,640 periods, in every second of which frames are lost: a day of one slow camera."""
    logged = []
    for _ in range(4320):
        rig.lose(2)
        logged += [*rig.hear(), *rig.hear()]
    assert len(logged) == 24
    assert all("WARNING detection can't keep up" in line for line in logged)
    dropped = [int(line.split(": ")[1].split(" of ")[0]) for line in logged]
    assert dropped == [2, *[360] * 23]
    assert " in 60 min; " in logged[1]


@pytest.mark.parametrize("pause", [CALM + PERIOD, REMINDER / 2, 2 * REMINDER])
def test_a_return_to_normal_is_logged_once_per_warning(rig: Rig, pause: float) -> None:
    logged = []
    for _ in range(20):
        rig.lose(2)
        logged += rig.hear_for(pause)
    levels = [line.split()[0] for line in logged]
    assert levels == ["WARNING", "INFO"] * (len(levels) // 2)
    assert len(levels) // 2 == min(20, round(20 * pause / REMINDER + 0.5))


def test_frames_that_grew_too_old_count_as_well(rig: Rig) -> None:
    for number in range(20):
        rig.lane.offer(frame(number))
        rig.lane.take()
        rig.lane.drop(INFERENCE, Reason.TOO_OLD)
    (logged,) = rig.hear()
    assert "detection can't keep up: 20 of 20 frames dropped" in logged


def test_a_slow_sink_is_distinguished_from_slow_detection(rig: Rig) -> None:
    rig.infer(12)
    assert rig.hear() == [
        "WARNING record can't keep up: 10 of 12 frames dropped in 10 s; "
        "its encoder or its disk is too slow"
    ]


def test_what_nobody_wants_is_no_trouble(rig: Rig) -> None:
    for _ in range(50):
        rig.lane.skip()
    assert rig.hear() == []


def test_a_stream_that_was_replaced_begins_anew(rig: Rig) -> None:
    for number in range(52):
        rig.lane.offer(frame(number))
    rig.hear()
    rig.lane = Rig(rig._caplog).lane
    assert rig.hear() == []

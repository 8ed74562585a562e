"""A capture thread's turn, and who may take it away."""

import pytest

from centernetd.capture.turn import Turn, TurnOverError


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_only_the_time_at_the_source_counts(clock: Clock) -> None:
    turn = Turn(clock)
    clock.now += 5
    assert turn.waited == 0
    turn.wait()
    clock.now += 3
    assert turn.waited == 3
    assert not turn.resume()
    clock.now += 5
    assert turn.waited == 0
    turn.wait(since=101.0)
    assert turn.waited == clock.now - 101.0


def test_a_thread_that_is_here_keeps_its_turn(clock: Clock) -> None:
    turn = Turn(clock)
    assert not turn.end(0)
    turn.wait()
    turn.resume()
    assert not turn.end(0)
    assert not turn.resume()


def test_a_thread_that_is_away_loses_its_turn_for_good(clock: Clock) -> None:
    turn = Turn(clock)
    turn.wait()
    assert turn.end(0)
    for _ in range(2):
        with pytest.raises(TurnOverError):
            turn.resume()
        turn.wait()


def test_a_stall_is_declared_once_and_heard_by_the_thread_that_comes_back(clock: Clock) -> None:
    turn = Turn(clock)
    assert not turn.declare_stall(0), "nobody waits"
    turn.wait()
    assert turn.declare_stall(0)
    assert not turn.declare_stall(0)
    assert turn.resume()
    turn.wait()
    assert not turn.declare_stall(0), "it was not put behind yet"
    turn.resume()
    assert turn.recover()
    assert not turn.recover()
    turn.wait()
    assert not turn.resume()


def test_a_thread_that_came_and_went_meanwhile_keeps_its_turn(clock: Clock) -> None:
    """Whoever looked at how long it waits may have been held up before acting on it."""
    turn = Turn(clock)
    turn.wait()
    clock.now += 30
    assert turn.waited == 30
    turn.resume()
    turn.wait()
    assert not turn.declare_stall(10)
    assert not turn.end(15)
    clock.now += 15
    assert turn.declare_stall(10)
    assert turn.end(15)

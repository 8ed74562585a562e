"""A capture thread's lease on its source, and who may end it."""

import pytest

from centernetd.capture.lease import Lease, LeaseEndedError
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_only_the_time_at_the_source_counts(clock: ManualClock) -> None:
    lease = Lease(clock)
    clock.now += 5
    assert lease.waited == 0
    lease.wait()
    clock.now += 3
    assert lease.waited == 3
    assert not lease.resume()
    clock.now += 5
    assert lease.waited == 0
    lease.wait(since=101.0)
    assert lease.waited == clock.now - 101.0


def test_a_thread_that_is_here_keeps_its_turn(clock: ManualClock) -> None:
    lease = Lease(clock)
    assert not lease.end(0)
    lease.wait()
    lease.resume()
    assert not lease.end(0)
    assert not lease.resume()


def test_a_thread_that_is_away_loses_its_turn_for_good(clock: ManualClock) -> None:
    lease = Lease(clock)
    lease.wait()
    assert lease.end(0)
    for _ in range(2):
        with pytest.raises(LeaseEndedError):
            lease.resume()
        lease.wait()


def test_a_stall_is_declared_once_and_heard_by_the_thread_that_comes_back(
    clock: ManualClock,
) -> None:
    lease = Lease(clock)
    assert not lease.declare_stall(0), "nobody waits"
    lease.wait()
    assert lease.declare_stall(0)
    assert not lease.declare_stall(0)
    assert lease.resume()
    lease.wait()
    assert not lease.declare_stall(0), "it was not put behind yet"
    lease.resume()
    assert lease.recover()
    assert not lease.recover()
    lease.wait()
    assert not lease.resume()


def test_a_thread_that_came_and_went_meanwhile_keeps_its_turn(clock: ManualClock) -> None:
    """Whoever looked at how long it waits may have been held up before acting on it."""
    lease = Lease(clock)
    lease.wait()
    clock.now += 30
    assert lease.waited == 30
    lease.resume()
    lease.wait()
    assert not lease.declare_stall(10)
    assert not lease.end(15)
    clock.now += 15
    assert lease.declare_stall(10)
    assert lease.end(15)

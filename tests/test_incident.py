"""A trouble is logged when it begins, at intervals if it keeps coming back, and when it ends."""

import pytest

from centernetd.flow import Incident
from tests.fakes import ManualClock

INTERVAL = 60.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_cause_is_logged_immediately_and_again_after_the_interval_with_its_count(
    clock: ManualClock,
) -> None:
    incident = Incident(INTERVAL, clock)
    assert incident.occurred("wrong password") == 1
    for _ in range(11):
        clock.now += 5
        assert incident.occurred("wrong password") == 0
    clock.now = 100 + INTERVAL
    assert incident.occurred("wrong password") == 12
    assert incident.occurred("wrong password") == 0


def test_another_cause_is_logged_immediately(clock: ManualClock) -> None:
    incident = Incident(INTERVAL, clock)
    assert incident.occurred("connection refused") == 1
    assert incident.occurred("connection refused") == 0
    assert incident.occurred("no picture") == 1
    assert incident.occurred(("open_failed", "connection refused")) == 1


def test_causes_that_alternate_are_logged_once_each(clock: ManualClock) -> None:
    incident = Incident(INTERVAL, clock)
    logged = 0
    for _ in range(10):
        clock.now += 2
        logged += bool(incident.occurred("connection refused"))
        logged += bool(incident.occurred("no route to host"))
    assert logged == 2
    clock.now += INTERVAL
    assert incident.occurred("no route to host") == 10


def test_only_a_few_causes_are_remembered(clock: ManualClock) -> None:
    incident = Incident(INTERVAL, clock)
    for number in range(1000):
        assert incident.occurred(f"code {number}") == 1
    assert len(incident._logged_at) + len(incident._unlogged) <= 100
    assert incident.occurred("code 999") == 0
    assert incident.occurred("code 0") == 1


def test_a_cause_that_comes_back_much_later_is_one_time(clock: ManualClock) -> None:
    incident = Incident(INTERVAL, clock)
    assert incident.occurred("the source ended") == 1
    clock.now += 86_400
    assert incident.occurred("the source ended") == 1


def test_a_trouble_without_interval_is_logged_once_until_it_is_resolved(clock: ManualClock) -> None:
    incident = Incident(clock=clock)
    for _ in range(2):
        assert incident.occurred() == 1
        clock.now += 86_400
        assert incident.occurred() == 0
        assert incident.resolved()


def test_the_end_is_logged_once_and_only_if_the_beginning_was(clock: ManualClock) -> None:
    incident = Incident(INTERVAL, clock)
    assert not incident.resolved()
    assert incident.occurred() == 1
    assert incident.resolved()
    assert not incident.resolved()
    assert incident.occurred() == 0
    assert not incident.resolved()
    clock.now += INTERVAL
    assert incident.occurred() == 2
    assert incident.resolved()

"""Names of events and tracks: UUIDs of version 7 that only ever increase."""

import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st

from centernetd.flow import Uuid7, uuid7

TIMES = st.lists(st.floats(0, 4e9), min_size=1, max_size=50)


@given(TIMES)
def test_each_is_of_version_7_and_greater_than_the_one_before(times: list[float]) -> None:
    make = Uuid7()
    made = [make(time) for time in times]
    assert made == sorted(set(made))
    for text in made:
        assert str(uuid.UUID(text)) == text
        assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (7, uuid.RFC_4122)


@given(TIMES)
def test_it_begins_with_its_time_unless_that_is_past(times: list[float]) -> None:
    make, latest = Uuid7(), 0.0
    for time in times:
        latest = max(latest, time)
        assert uuid.UUID(make(time)).int >> 80 == int(latest * 1000)


def test_two_processes_make_different_ones() -> None:
    assert Uuid7()(1.0) != Uuid7()(1.0)
    assert Uuid7()(1.0).startswith("00000000-03e8-7")
    assert Uuid7()(-1.0).startswith("00000000-0000-7")


def test_threads_never_make_the_same() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend(uuid7(1.0) for _ in range(500))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000

"""Causes that keep coming back are told once, and then once a minute."""

from centernetd.capture.reminder import INTERVAL, Reminder


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_cause_is_told_at_once_and_again_after_a_minute_with_its_count() -> None:
    clock = Clock()
    reminder = Reminder(clock)
    assert reminder.count("unauthorized", "wrong password") == 1
    for _ in range(11):
        clock.now += 5
        assert reminder.count("unauthorized", "wrong password") == 0
    clock.now = 100 + INTERVAL
    assert reminder.count("unauthorized", "wrong password") == 12
    assert reminder.count("unauthorized", "wrong password") == 0


def test_another_sentence_or_kind_is_told_at_once() -> None:
    clock = Clock()
    reminder = Reminder(clock)
    assert reminder.count("unreachable", "connection refused") == 1
    assert reminder.count("unreachable", "connection refused") == 0
    assert reminder.count("stalled", "no picture") == 1
    assert reminder.count("unreachable", "no route to host") == 1


def test_causes_that_take_turns_are_told_once_each() -> None:
    clock = Clock()
    reminder = Reminder(clock)
    told = 0
    for _ in range(10):
        clock.now += 2
        told += bool(reminder.count("unreachable", "connection refused"))
        told += bool(reminder.count("unreachable", "no route to host"))
    assert told == 2
    clock.now += INTERVAL
    assert reminder.count("unreachable", "no route to host") == 10


def test_only_so_many_causes_are_remembered() -> None:
    reminder = Reminder(Clock())
    for number in range(1000):
        assert reminder.count("read_failed", f"code {number}") == 1
    assert len(reminder._told) + len(reminder._held) <= 100
    assert reminder.count("read_failed", "code 999") == 0
    assert reminder.count("read_failed", "code 0") == 1


def test_a_cause_that_comes_back_much_later_is_one_time() -> None:
    clock = Clock()
    reminder = Reminder(clock)
    assert reminder.count("ended", "the source ended") == 1
    clock.now += 86_400
    assert reminder.count("ended", "the source ended") == 1

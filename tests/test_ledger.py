"""The double-entry book: what it adds up and what it refuses."""

from collections.abc import Callable
from threading import RLock

import pytest

from centernetd.flow import CAPTURE, INFERENCE, Ledger, Reason, StageName
from centernetd.flow.ledger import reasons_at
from centernetd.sink.registry import EVENTS, RECORD

SINKS = (RECORD, EVENTS)


def a_ledger(captured: int = 0, taken: int = 0, inferred: int = 0) -> Ledger:
    ledger = Ledger(SINKS, RLock())
    for _ in range(captured):
        ledger.capture()
    for _ in range(taken):
        ledger.take_up()
    for _ in range(inferred):
        ledger.infer()
    return ledger


def test_each_frame_is_in_one_place_before_the_sinks_and_owed_to_each_of_them() -> None:
    book = a_ledger(captured=5, taken=3, inferred=2).read()
    assert (book.captured, book.inferred) == (5, 2)
    assert book.in_flight == {
        CAPTURE: 2,
        INFERENCE: 1,
        RECORD: 2,
        EVENTS: 2,
    }
    assert book.balanced


def test_sinks_are_counted_apart() -> None:
    ledger = a_ledger(4, 4, 4)
    ledger.write(RECORD, 3)
    ledger.drop(RECORD, Reason.FAILED)
    ledger.write(EVENTS)
    book = ledger.read()
    assert book.written == {RECORD: 3, EVENTS: 1}
    assert book.dropped_at(RECORD) == 1
    assert book.dropped_at(*SINKS) == 1
    assert book.in_flight[EVENTS] == 3
    assert book.balanced


def test_every_drop_counter_exists_from_the_start() -> None:
    dropped = Ledger([EVENTS], RLock()).read().dropped
    stages = (CAPTURE, INFERENCE, EVENTS)
    assert dropped == {(stage, reason): 0 for stage in stages for reason in reasons_at(stage)}
    assert {reason for _, reason in dropped} == set(Reason)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [(CAPTURE, Reason.TOO_OLD), (INFERENCE, Reason.OVERFLOW), (RECORD, Reason.TOO_OLD)],
)
def test_a_drop_that_can_not_be_is_refused(stage: StageName, reason: Reason) -> None:
    ledger = a_ledger(3, 2, 1)
    with pytest.raises(KeyError):
        ledger.drop(stage, reason)
    assert ledger.read().balanced


def test_writing_off_leaves_nothing_in_flight() -> None:
    ledger = a_ledger(6, 4, 2)
    ledger.write_off(CAPTURE, INFERENCE)
    assert ledger.waiting == 0
    assert ledger.read().in_flight[RECORD] == 2
    ledger.close()
    book = ledger.read()
    assert not any(book.in_flight.values())
    assert book.dropped[CAPTURE, Reason.SHUTDOWN] == 2
    assert book.dropped[EVENTS, Reason.SHUTDOWN] == 2
    assert book.balanced


def test_a_book_is_a_copy() -> None:
    ledger = a_ledger(1)
    book = ledger.read()
    ledger.drop(CAPTURE, Reason.OVERFLOW)
    assert book.in_flight[CAPTURE] == 1
    assert book.dropped_at(CAPTURE) == 0


def test_a_book_that_does_not_add_up_is_reported() -> None:
    ledger = a_ledger(2, 2, 1)
    ledger._captured += 1
    assert not ledger.read().balanced
    ledger._captured -= 1
    ledger._written[EVENTS] += 1
    assert not ledger.read().balanced


@pytest.mark.parametrize(
    "posting",
    [
        lambda ledger: ledger.take_up(),
        lambda ledger: ledger.infer(),
        lambda ledger: ledger.write(RECORD, 2),
        lambda ledger: ledger.write(RECORD, -1),
        lambda ledger: ledger.write(CAPTURE),
        lambda ledger: ledger.drop(CAPTURE, Reason.OVERFLOW),
        lambda ledger: ledger.drop(INFERENCE, Reason.TOO_OLD),
        lambda ledger: ledger.drop(EVENTS, Reason.FAILED, 2),
        lambda ledger: ledger.drop(EVENTS, Reason.FAILED, -1),
    ],
)
def test_what_was_never_put_in_cannot_be_taken_out(posting: Callable[[Ledger], None]) -> None:
    ledger = a_ledger(1, 1, 1)
    before = ledger.read()
    with pytest.raises(RuntimeError, match="can't leave"):
        posting(ledger)
    assert ledger.read() == before


def test_a_sink_that_the_stream_has_not_is_refused() -> None:
    ledger = Ledger([RECORD], RLock())
    with pytest.raises(KeyError):
        ledger.write(EVENTS)


def test_a_capture_that_comes_back_after_the_end_leaves_nothing_in_flight() -> None:
    ledger = a_ledger(1)
    ledger.close()
    ledger.capture()
    ledger.drop(CAPTURE, Reason.UNWANTED)
    book = ledger.read()
    assert (book.captured, book.balanced, any(book.in_flight.values())) == (1, True, False)


def test_what_inference_brings_after_it_was_written_off_is_not_posted() -> None:
    ledger = a_ledger(captured=3, taken=2, inferred=1)
    ledger.write_off(CAPTURE, INFERENCE)
    written_off = ledger.read()
    ledger.drop(INFERENCE, Reason.TOO_OLD)
    ledger.drop(CAPTURE, Reason.OVERFLOW)
    ledger.capture()
    ledger.take_up()
    ledger.infer()
    assert ledger.read() == written_off
    ledger.write(RECORD)
    ledger.drop(EVENTS, Reason.FAILED)
    book = ledger.read()
    assert book.balanced, "the sinks' places are open still"
    assert not any(book.in_flight.values())


class FakeLock:
    """A lock; whoever waits for it acts as soon as it is let go for the first time."""

    def __init__(self, waiter: Callable[[], None]) -> None:
        self._waiter = waiter

    def __enter__(self) -> None:
        """Take it."""

    def __exit__(self, *_: object) -> None:
        waiter, self._waiter = self._waiter, lambda: None
        waiter()


def test_a_sink_that_comes_back_while_the_book_is_closed_posts_nothing() -> None:
    ledger = a_ledger(1, 1, 1)
    ledger._lock = FakeLock(lambda: ledger.write(EVENTS))  # type: ignore[assignment]
    ledger.close()
    book = ledger.read()
    assert (book.written[EVENTS], book.balanced) == (0, True)


def test_posting_no_frames_changes_nothing_and_is_no_mistake() -> None:
    ledger = a_ledger(1, 1, 1)
    before = ledger.read()
    ledger.infer(0)
    ledger.write(RECORD, 0)
    ledger.drop(CAPTURE, Reason.OVERFLOW, 0)
    assert ledger.read() == before


def test_the_receipt_counts_the_recording() -> None:
    ledger = a_ledger(3, 3, 3)
    ledger.write(RECORD, 3)
    ledger.write(EVENTS, 1)
    ledger.drop(EVENTS, Reason.UNWANTED, 2)
    assert ledger.read().receipt() == "3 captured = 3 written + 0 dropped"


def test_the_receipt_counts_what_was_lost_before_and_in_the_recording() -> None:
    ledger = a_ledger(7, 6, 5)
    ledger.write(RECORD, 4)
    ledger.drop(RECORD, Reason.FAILED)
    ledger.drop(INFERENCE, Reason.SHUTDOWN)
    ledger.drop(CAPTURE, Reason.SHUTDOWN)
    assert ledger.read().receipt() == "7 captured = 4 written + 3 dropped"


def test_the_receipt_lists_unwanted_frames_separately() -> None:
    ledger = Ledger([EVENTS], RLock())
    for _ in range(3):
        ledger.capture()
    for _ in range(2):
        ledger.take_up()
        ledger.infer()
    ledger.write(EVENTS)
    ledger.drop(EVENTS, Reason.UNWANTED)
    ledger.drop(CAPTURE, Reason.UNWANTED)
    assert ledger.read().receipt() == "3 captured = 1 written + 0 dropped + 2 not asked for"


def test_the_receipt_of_a_stream_without_outputs_counts_what_was_inferred() -> None:
    ledger = Ledger([], RLock())
    for _ in range(2):
        ledger.capture()
        ledger.take_up()
        ledger.infer()
    assert ledger.read().receipt() == "2 captured = 2 inferred + 0 dropped"

"""Captures whose library doesn't come back: stalls declared from outside, and threads replaced."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from centernetd.capture.stage import Backoff
from centernetd.errors import SourceError
from centernetd.flow import StreamState
from tests.capturing import House
from tests.fakes import PATIENCE, FakeSource, picture, wait_until

LIVE = "rtsp://camera/1"


class Gate:
    """Holds whoever calls it, as native code does, until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(PATIENCE)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "after", lambda _backoff, _took: 0.0)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def run(house: House) -> threading.Thread:
    thread = threading.Thread(target=house.stage.run, daemon=True)
    thread.start()
    return thread


def impatient(house: House, *, lost: bool) -> House:
    """Have stalls declared, and threads given up if so wanted, after some milliseconds."""
    house.stage._stalls_at = 0.01
    house.stage._lost_at = 0.02 if lost else 1e6
    return house


def ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_a_stall_is_declared_from_outside_and_what_comes_late_is_refused(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    house = impatient(House(LIVE, FakeSource([picture(0), gate, picture(40)])), lost=False)
    house.openings._steps += [FakeSource([picture(0), house.stop.set])]
    reading = run(house)
    assert gate.entered.wait(PATIENCE)
    assert house.status is StreamState.RUNNING
    wait_until(lambda: house.stage.watch() or house.status is StreamState.RECONNECTING)
    assert house.lane.status.last_error == "no picture for 5 s"
    assert not house.stage.watch()
    gate.opened.set()
    assert ended(reading)
    assert [frame_id for frame_id, _ in house.take()] == [0, 1], "the late one must not be in it"
    assert {k: n for k, n in house.lane.status.reconnects.items() if n} == {"stalled": 1}
    assert caplog.text.count("no picture for 5 s") == 1
    assert house.openings.tries == 2


def hanging_opening(gate: Gate) -> Callable[[], None]:
    return gate


def hanging_reading(gate: Gate) -> FakeSource:
    return FakeSource([picture(0), gate, picture(40)])


@pytest.mark.parametrize("first", [hanging_opening, hanging_reading])
def test_another_thread_takes_over_and_the_lost_one_is_refused(
    first: Callable[[Gate], FakeSource | Callable[[], None]],
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    house = impatient(House(LIVE, first(gate)), lost=True)
    lost = run(house)
    assert gate.entered.wait(PATIENCE)
    before = house.lane.ledger.read().captured
    wait_until(house.stage.watch)
    assert house.status.value == "stuck"
    assert house.lane.status.reconnects["stuck"] == 1
    assert not house.stage.watch(), "told once"

    last = Gate()
    house.openings.opened.clear()  # the source of the lost thread can't be closed
    house.openings._steps += [FakeSource([picture(0), picture(40), last, house.stop.set])]
    second = run(house)
    assert last.entered.wait(PATIENCE)
    assert house.status.value == "running"
    gate.opened.set()
    assert ended(lost)
    assert house.status.value == "running", "the lost thread must not touch the state"
    assert not house.lane.closed
    last.opened.set()
    assert ended(second)
    assert [frame_id for frame_id, _ in house.take()] == list(range(before + 2))
    assert caplog.text.count("stuck: ") == 1
    assert caplog.text.count("running: ") == before + 1, "its return is logged"
    assert "a lost thread of its capture has come back" in caplog.text


def test_a_lost_thread_that_comes_back_with_a_source_closes_it(gate: Gate) -> None:
    house = impatient(House(LIVE), lost=True)
    late = FakeSource([picture(0)])

    def open_late(*_: object) -> FakeSource:
        gate()
        return late

    house.stage._opener = open_late
    lost = run(house)
    assert gate.entered.wait(PATIENCE)
    wait_until(house.stage.watch)
    gate.opened.set()
    assert ended(lost)
    assert late.closed == 1
    assert house.lane.ledger.read().captured == 0


def test_an_error_of_a_lost_thread_is_nobodys_concern(gate: Gate) -> None:
    broken = SourceError("reading stopped")
    house = impatient(House(LIVE, FakeSource([picture(0), gate, broken])), lost=True)
    lost = run(house)
    assert gate.entered.wait(PATIENCE)
    wait_until(house.stage.watch)
    gate.opened.set()
    assert ended(lost)
    assert house.status is StreamState.STUCK
    assert house.lane.status.reconnects["read_failed"] == 0


def test_time_that_we_take_ourselves_is_no_stall() -> None:
    """A lossless stream waits for room in its lane, not for its source."""
    house = impatient(House(LIVE, FakeSource([picture(n) for n in range(9)]), depth=3), lost=True)
    reading = run(house)
    wait_until(lambda: bool(house.lane._room._waiters))  # type: ignore[attr-defined]
    threading.Event().wait(0.05)  # longer than it would take to be lost
    assert not house.stage.watch()
    assert house.status is StreamState.RUNNING
    house.stop.set()
    house.lane.close()
    assert ended(reading)


def test_a_file_that_hangs_is_stuck_and_goes_on_where_it_was(tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    source = FakeSource([picture(0), gate, picture(40), picture(80)])
    house = impatient(House(str(path), source), lost=True)
    reading = run(house)
    assert gate.entered.wait(PATIENCE)
    wait_until(lambda: house.stage.watch() or house.status is StreamState.STUCK)
    gate.opened.set()
    assert ended(reading)
    assert house.status is StreamState.ENDED
    assert house.lane.status.last_error is None
    assert house.take() == [(0, 0), (1, 40), (2, 80)]


def test_a_pipe_may_be_silent_for_as_long_as_it_likes(tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    house = impatient(House(str(path), FakeSource([picture(0), gate])), lost=True)
    reading = run(house)
    assert gate.entered.wait(PATIENCE)
    threading.Event().wait(0.05)  # longer than it would take to be lost
    assert not house.stage.watch()
    assert house.status is StreamState.RUNNING
    gate.opened.set()
    assert ended(reading)


def test_a_thread_that_is_lost_while_it_closes_its_source_touches_nothing(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    class Closing(FakeSource):
        def close(self) -> None:
            gate()
            super().close()

    house = impatient(House(LIVE, Closing([picture(0)], damaged=5)), lost=True)
    lost = run(house)
    assert gate.entered.wait(PATIENCE)
    assert house.stage._lease._since is not None, "it may be kept there too"
    wait_until(house.stage.watch)
    house.lane.status.damaged = 1  # which another thread counted
    gate.opened.set()
    assert ended(lost)
    assert house.lane.status.damaged == 1
    assert "damaged" not in caplog.text

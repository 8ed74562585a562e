"""Captures whose library doesn't come back: stalls declared from outside, and threads replaced."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from centernetd.capture.stage import Backoff
from centernetd.errors import SourceError
from centernetd.flow import Incident, StreamState
from tests.capture_rig import Rig
from tests.fakes import WAIT_TIMEOUT, FakeSource, picture, wait_until

LIVE = "rtsp://camera/1"


class Gate:
    """Holds whoever calls it, as native code does, until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(WAIT_TIMEOUT)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "after", lambda _backoff, _took: 0.0)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def run(rig: Rig) -> threading.Thread:
    thread = threading.Thread(target=rig.stage.run, daemon=True)
    thread.start()
    return thread


def impatient(rig: Rig, *, lost: bool) -> Rig:
    """Have stalls declared, and threads given up if so wanted, after some milliseconds."""
    rig.stage._stalls_at = 0.01
    rig.stage._lost_at = 0.02 if lost else 1e6
    return rig


def ended(thread: threading.Thread) -> bool:
    thread.join(WAIT_TIMEOUT)
    return not thread.is_alive()


def test_a_stall_is_declared_from_outside_and_what_comes_late_is_refused(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    rig = impatient(Rig(LIVE, FakeSource([picture(0), gate, picture(40)])), lost=False)
    rig.openings._steps += [FakeSource([picture(0), rig.stop.set])]
    reading = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    assert rig.status is StreamState.RUNNING
    wait_until(lambda: rig.stage.watch() or rig.status is StreamState.RECONNECTING)
    assert rig.lane.status.last_error == "no picture for 5 s"
    assert not rig.stage.watch()
    gate.opened.set()
    assert ended(reading)
    assert [frame_id for frame_id, _ in rig.take()] == [0, 1], "the late one must not be in it"
    assert {k: n for k, n in rig.lane.status.reconnects.items() if n} == {"stalled": 1}
    assert caplog.text.count("no picture for 5 s") == 1
    assert rig.openings.tries == 2


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
    rig = impatient(Rig(LIVE, first(gate)), lost=True)
    lost = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    before = rig.lane.ledger.read().captured
    wait_until(rig.stage.watch)
    assert rig.status.value == "stuck"
    assert rig.lane.status.reconnects["stuck"] == 1
    assert not rig.stage.watch(), "reported once"

    last = Gate()
    rig.openings.opened.clear()  # the source of the lost thread can't be closed
    rig.openings._steps += [FakeSource([picture(0), picture(40), last, rig.stop.set])]
    second = run(rig)
    assert last.entered.wait(WAIT_TIMEOUT)
    assert rig.status.value == "running"
    gate.opened.set()
    assert ended(lost)
    assert rig.status.value == "running", "the lost thread must not touch the state"
    assert not rig.lane.closed
    last.opened.set()
    assert ended(second)
    assert [frame_id for frame_id, _ in rig.take()] == list(range(before + 2))
    assert caplog.text.count("stuck: ") == 1
    assert caplog.text.count("running: ") == before + 1, "its return is logged"
    assert "a lost capture thread has returned" in caplog.text


def test_losses_that_were_not_logged_are_counted_in_the_next_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, gates = [100.0], [Gate() for _ in range(3)]
    rig = impatient(Rig(LIVE, *gates), lost=True)
    rig.stage._failures = Incident(60.0, lambda: now[0])
    lost = []
    for number, gate in enumerate(gates):
        now[0] += 30 * number
        lost.append(run(rig))
        assert gate.entered.wait(WAIT_TIMEOUT)
        wait_until(rig.stage.watch)
    assert rig.lane.status.reconnects["stuck"] == 3
    first, second = (line for line in caplog.messages if "stuck" in line)
    assert first.startswith(f"{LIVE}: stuck: the library that reads it has not returned for ")
    assert first.endswith(" s")
    assert second.endswith(" s (2 times)")
    for gate in gates:
        gate.opened.set()
    assert all(map(ended, lost))


def test_a_lost_thread_that_comes_back_with_a_source_closes_it(gate: Gate) -> None:
    rig = impatient(Rig(LIVE), lost=True)
    late = FakeSource([picture(0)])

    def open_late(*_: object) -> FakeSource:
        gate()
        return late

    rig.stage._opener = open_late
    lost = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    wait_until(rig.stage.watch)
    gate.opened.set()
    assert ended(lost)
    assert late.closed == 1
    assert rig.lane.ledger.read().captured == 0


def test_an_error_of_a_lost_thread_is_nobodys_concern(gate: Gate) -> None:
    broken = SourceError("reading stopped")
    rig = impatient(Rig(LIVE, FakeSource([picture(0), gate, broken])), lost=True)
    lost = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    wait_until(rig.stage.watch)
    gate.opened.set()
    assert ended(lost)
    assert rig.status is StreamState.STUCK
    assert rig.lane.status.reconnects["read_failed"] == 0


def test_time_that_we_take_ourselves_is_no_stall() -> None:
    """A lossless stream waits for room in its lane, not for its source."""
    rig = impatient(Rig(LIVE, FakeSource([picture(n) for n in range(9)]), depth=3), lost=True)
    reading = run(rig)
    wait_until(lambda: bool(rig.lane._room._waiters))  # type: ignore[attr-defined]
    threading.Event().wait(0.05)  # longer than it would take to be lost
    assert not rig.stage.watch()
    assert rig.status is StreamState.RUNNING
    rig.stop.set()
    rig.lane.close()
    assert ended(reading)


def test_a_file_that_hangs_is_stuck_and_goes_on_where_it_was(tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    source = FakeSource([picture(0), gate, picture(40), picture(80)])
    rig = impatient(Rig(str(path), source), lost=True)
    reading = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    wait_until(lambda: rig.stage.watch() or rig.status is StreamState.STUCK)
    gate.opened.set()
    assert ended(reading)
    assert rig.status is StreamState.ENDED
    assert rig.lane.status.last_error is None
    assert rig.take() == [(0, 0), (1, 40), (2, 80)]


def test_a_pipe_may_be_silent_for_as_long_as_it_likes(tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    rig = impatient(Rig(str(path), FakeSource([picture(0), gate])), lost=True)
    reading = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    threading.Event().wait(0.05)  # longer than it would take to be lost
    assert not rig.stage.watch()
    assert rig.status is StreamState.RUNNING
    gate.opened.set()
    assert ended(reading)


def test_a_thread_that_is_lost_while_it_closes_its_source_touches_nothing(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    class Closing(FakeSource):
        def close(self) -> None:
            gate()
            super().close()

    rig = impatient(Rig(LIVE, Closing([picture(0)], damaged=5)), lost=True)
    lost = run(rig)
    assert gate.entered.wait(WAIT_TIMEOUT)
    assert rig.stage._lease._since is not None, "it may be kept there too"
    wait_until(rig.stage.watch)
    rig.lane.status.damaged = 1  # which another thread counted
    gate.opened.set()
    assert ended(lost)
    assert rig.lane.status.damaged == 1
    assert "damaged" not in caplog.text

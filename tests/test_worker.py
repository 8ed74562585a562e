"""A stage's thread, and how it reports that it ended; the wake-up of the one that waits."""

import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

from centernetd.errors import StartupError
from centernetd.flow import WakeUp, Worker
from tests.fakes import WAIT_TIMEOUT


def soon() -> float:
    return time.monotonic() + WAIT_TIMEOUT


def test_a_worker_runs_in_a_thread_of_its_own_that_bears_its_name() -> None:
    names: list[str] = []
    ended: list[Worker] = []
    worker = Worker("decode", lambda: names.append(threading.current_thread().name), ended.append)
    assert not worker.alive
    worker.start()
    assert worker.join(soon())
    assert names == ["decode"]
    assert ended == [worker]
    assert worker.error is None


def test_what_it_raises_is_kept_and_reported_in_its_thread() -> None:
    reported: list[tuple[BaseException | None, threading.Thread]] = []
    error = ValueError("of no use")

    def fail() -> None:
        raise error

    worker = Worker("bad", fail, lambda it: reported.append((it.error, threading.current_thread())))
    worker.start()
    assert worker.join(soon())
    assert worker.error is error
    ((found, thread),) = reported
    assert found is error
    assert thread is not threading.current_thread()


def test_a_prepared_worker_waits_for_its_start() -> None:
    ran: list[int] = []
    worker = Worker("w", lambda: ran.append(threading.get_ident()), lambda _: None)
    worker.prepare()
    assert worker.alive
    assert ran == []
    worker.start()
    assert worker.join(soon())
    assert len(ran) == 1


@pytest.mark.parametrize("prepared", [True, False])
def test_a_cancelled_worker_never_works(prepared: bool) -> None:
    worker = Worker("w", lambda: pytest.fail("it ran"), lambda _: pytest.fail("it reported"))
    if prepared:
        worker.prepare()
    worker.cancel()
    assert worker.join(soon())
    assert worker.error is None


def test_a_thread_that_the_system_refuses_is_reported_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = Worker("capture:gate", lambda: None, lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StartupError, match=r"no thread for capture:gate: .*TasksMax="):
            worker.start()
    assert worker.join(soon())
    worker.start()
    assert worker.join(soon()), "it can be tried again"


def test_even_an_exit_is_reported() -> None:
    def leave() -> None:
        raise SystemExit(3)

    worker = Worker("leaving", leave, lambda _: None)
    worker.start()
    assert worker.join(soon())
    assert isinstance(worker.error, SystemExit)


def test_a_deadline_that_is_over_only_asks() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(WAIT_TIMEOUT)

    worker = Worker("stuck", hang, lambda _: None)
    worker.start()
    assert not worker.join(time.monotonic() - 1)
    assert worker.alive
    release.set()
    assert worker.join(soon())


def test_its_thread_does_not_keep_the_process_alive() -> None:
    daemons: list[bool] = []
    worker = Worker("w", lambda: daemons.append(threading.current_thread().daemon), lambda _: None)
    worker.start()
    assert worker.join(soon())
    assert daemons == [True]


def test_a_wake_up_is_reset_by_a_wait_however_often_it_was_set() -> None:
    wake_up = WakeUp()
    for _ in range(3):
        wake_up.set()
    wake_up.wait()
    wake_up.wait(0.0)
    threading.Thread(target=wake_up.set).start()
    wake_up.wait()


def test_a_handler_may_set_a_wake_up_wherever_it_interrupts_the_waiting_thread() -> None:
    wake_up, interrupted = WakeUp(), []

    def interrupt(frame: FrameType, event: str, _: object) -> Any:
        wake_up.set()
        interrupted.append((frame.f_code.co_name, event))
        return interrupt

    def wait() -> None:
        sys.settrace(interrupt)
        for _ in range(3):
            wake_up.wait(0.001)
        wake_up.set()
        sys.settrace(None)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waiter.join(WAIT_TIMEOUT)
    assert not waiter.is_alive(), f"hangs since it was set in {interrupted[-1]}"
    assert {name for name, _ in interrupted} >= {"wait", "set"}

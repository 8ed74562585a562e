"""Finding a running daemon by its lock file, and making it reload."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from centernetd.commands import reload as reload_module
from centernetd.commands.reload import reload
from centernetd.config.template import LOCK_NAME
from centernetd.errors import CenternetdError, StartupError
from centernetd.run.reload import ReloadStatus
from centernetd.sink.lockfile import LockFile
from tests.fakes import WAIT_TIMEOUT, wait_until


def test_a_daemon_that_runs_one_source_is_not_asked_to_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its SIGHUP is that of a terminal that closes, and would stop it."""
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it was sent a signal"))
    holder = LockFile(tmp_path / LOCK_NAME)
    holder.publish(ReloadStatus.of_this_process(follows=False).to_text())
    with pytest.raises(StartupError, match="runs one source from its command line"):
        reload(tmp_path)
    holder.close()


def test_a_daemon_whose_storage_root_was_edited_is_to_be_restarted(tmp_path: Path) -> None:
    """It holds the lock of the former one, which the edited configuration does not name."""
    former, edited = tmp_path / "former", tmp_path / "edited"
    former.mkdir()
    with closing(LockFile(former / LOCK_NAME)) as holder:
        holder.publish(ReloadStatus.of_this_process(follows=True).to_text())
        advice = "start it, or restart it if storage.root has changed"
        with pytest.raises(StartupError, match=f"no centernetd writes to {edited}: {advice}"):
            reload(edited)


@pytest.fixture
def victim() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that SIGHUP ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_that_does_not_hold_the_lock_is_not_signalled(
    tmp_path: Path, victim: "subprocess.Popen[bytes]"
) -> None:
    with closing(LockFile(tmp_path / LOCK_NAME)) as forger:
        forger.publish(ReloadStatus(victim.pid).to_text())
        with pytest.raises(StartupError, match=f"names process {victim.pid}, which does not hold"):
            reload(tmp_path)
        forger.publish(ReloadStatus(2**22 + 1).to_text())  # there is no such process
        with pytest.raises(StartupError, match="No such process"):
            reload(tmp_path)
    assert victim.poll() is None


def reload_beside(storage_root: Path) -> str:
    """Call `reload` in another thread, while this one often wakes to run signal handlers.

    A signal to a process may be given to any of its threads, which wakes only that one; Python runs
    the handler in the main one.
    """
    with ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(reload, storage_root)
        wait_until(reloading.done)
        return reloading.result()


def test_the_holder_is_signalled_and_its_answer_returned(tmp_path: Path) -> None:
    status = ReloadStatus.of_this_process(follows=True)
    with closing(LockFile(tmp_path / LOCK_NAME)) as holder:
        holder.publish(status.to_text())

        def answer(*_: object) -> None:
            holder.publish(replace(status, begun=1, ended=1, outcome="added gate").to_text())

        before = signal.signal(signal.SIGHUP, answer)
        try:
            assert reload_beside(tmp_path) == "added gate"
        finally:
            signal.signal(signal.SIGHUP, before)


def test_models_are_waited_for_however_long_they_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = ReloadStatus.of_this_process(follows=True)
    loading = replace(status, begun=1, loading="faces, coco")
    statuses = iter([status] + 50 * [loading] + [replace(status, begun=1, ended=1, outcome="x")])
    monkeypatch.setattr(reload_module, "find_daemon", lambda _: next(statuses))
    monkeypatch.setattr(reload_module, "_ask", lambda *_: None)
    monkeypatch.setattr(reload_module, "_INTERVAL", 0.0)
    waits, reported = [], list[str]()

    class FakeQueue(Queue[object]):
        """Knows how long each answer may take."""

        def get(self, block: bool = True, timeout: float | None = None) -> object:
            waits.append(timeout)
            return super().get(block, WAIT_TIMEOUT)

    monkeypatch.setattr(reload_module, "Queue", FakeQueue)
    assert reload(tmp_path, reported.append) == "x"
    assert waits == 51 * [reload_module._TIMEOUT], "each answer has all of the time"
    assert reported == ["the daemon is loading faces, coco"]


def test_a_holder_that_ends_is_not_reported_as_missing(tmp_path: Path) -> None:
    """As when all that is left after the reload are files that are done."""
    holder = LockFile(tmp_path / LOCK_NAME)
    holder.publish(ReloadStatus.of_this_process(follows=True).to_text())
    before = signal.signal(signal.SIGHUP, lambda *_: holder.close())
    try:
        with pytest.raises(StartupError, match="exited before its answer was read"):
            reload_beside(tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_disk_that_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def hang(_: Path) -> None:
        let_go.wait(WAIT_TIMEOUT)

    monkeypatch.setattr(reload_module, "published_in", hang)
    monkeypatch.setattr(reload_module, "_TIMEOUT", 0.1)
    with pytest.raises(CenternetdError, match=r"has not reloaded .* its disk may hang"):
        reload(tmp_path)
    let_go.set()

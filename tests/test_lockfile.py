"""The file with which a daemon holds its storage root and speaks of itself."""

import os
from pathlib import Path

import pytest

from daemon.commands.reload import reload
from daemon.control import Control
from daemon.errors import StartupError
from daemon.sink.lockfile import LockFile, said_in
from daemon.sink.storage import LOCK_NAME, Storage


def test_only_a_holder_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert said_in(path) is None
    holder = LockFile(path)
    assert said_in(path) == ""
    holder.say("a long sentence")
    holder.say("short")
    assert said_in(path) == "short"
    with pytest.raises(BlockingIOError):
        LockFile(path)
    holder.close()
    holder.close()
    holder.say("nobody hears this")
    assert said_in(path) is None


def test_a_root_that_is_claimed_again_still_tells(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.say("before it is there")
    for _ in range(2):
        storage.open()
        assert said_in(tmp_path / LOCK_NAME) == "before it is there"
        storage.close()


def test_only_who_keeps_house_writes_what_is_said(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.open()
    storage.say("something")
    assert said_in(tmp_path / LOCK_NAME) == "", "the disk may hang"
    storage.bell.wait()
    storage.tell()
    assert said_in(tmp_path / LOCK_NAME) == "something"
    storage.close()


@pytest.mark.parametrize("letter", ["a", "\N{SNOWMAN}", "\N{GRINNING FACE}", "\n", "\0"])
def test_however_much_there_is_to_say_it_is_read_back(tmp_path: Path, letter: str) -> None:
    control = Control(pid=7, begun=3, ended=2, refusal=letter * 5000)
    holder = LockFile(tmp_path / "lock")
    holder.say(control.to_text())
    read = Control.from_text(said_in(tmp_path / "lock") or "")
    assert read.ended == 2
    assert read.refusal.startswith(letter * 500)
    assert read.refusal.endswith("(the daemon's log has it all)")
    holder.close()


def test_a_daemon_that_runs_one_source_is_not_asked_to_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its SIGHUP is that of a terminal that closes, and would stop it."""
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it was sent a signal"))
    holder = LockFile(tmp_path / LOCK_NAME)
    holder.say(Control.of_this_process(follows=False).to_text())
    with pytest.raises(StartupError, match="runs one source from its command line"):
        reload(tmp_path)
    holder.close()


def test_what_a_daemon_says_is_read_back() -> None:
    control = Control(pid=7, begun=3, ended=2, outcome="added gate", refusal="")
    assert Control.from_text(control.to_text()) == control
    for torn in ("", "{", '{"pid": 1, "more": 2}', control.to_text()[:-3]):
        with pytest.raises(ValueError):  # noqa: PT011
            Control.from_text(torn)

"""The file with which a daemon claims its storage root and publishes a text."""

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from centernetd.commands.reload import reload
from centernetd.config.template import LOCK_NAME
from centernetd.errors import StartupError
from centernetd.sink.lockfile import LockFile, is_held_by, published_in
from centernetd.sink.storage import Storage


def test_only_a_holder_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert published_in(path) is None
    holder = LockFile(path)
    assert published_in(path) == ""
    holder.publish("a long sentence")
    holder.publish("short")
    assert published_in(path) == "short"
    with pytest.raises(BlockingIOError):
        LockFile(path)
    holder.close()
    holder.close()
    holder.publish("nobody hears this")
    assert published_in(path) is None


def test_having_the_file_open_is_not_holding_it(tmp_path: Path) -> None:
    path = tmp_path / LOCK_NAME
    with closing(LockFile(path)), path.open("rb") as opened:
        script = f"import os, sys; os.fstat({opened.fileno()}); print(1, flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[opened.fileno()],
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"1\n"
            assert is_held_by(path, os.getpid())
            assert not is_held_by(path, other.pid)
            other.communicate(b"\n")
    path.unlink()
    path.touch()
    assert not is_held_by(path, os.getpid())


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_only_a_file_is_written_to_and_read(tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_bytes(b"untouched")
    lock = root / LOCK_NAME
    if kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(outside if kind == "link" else tmp_path / "none")
    with pytest.raises(StartupError, match=rf"{lock} is not a regular file: remove it"):
        Storage(root).claim()
    with pytest.raises(StartupError, match=r"can't be read: it is not a regular file"):
        reload(root)
    assert outside.read_bytes() == b"untouched"
    assert not (tmp_path / "none").exists()


def test_only_its_user_may_write_to_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        LockFile(tmp_path / "lock").close()
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o644


def test_a_file_of_another_user_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"untouched")
    with pytest.raises(StartupError, match=rf"{path} is another user's file: remove it"):
        LockFile(path, owner=os.getuid() + 1)
    assert path.read_bytes() == b"untouched"
    LockFile(path, owner=os.getuid()).close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ENOLCK, r"lock can't be locked \(No locks available\), .* shares refuse locks"),
        (errno.EOPNOTSUPP, r"can't be locked \(Operation not supported\)"),
        (errno.ENOSYS, r"can't be locked \(Function not implemented\)"),
        (errno.EACCES, "another centernetd writes to"),
        (errno.EAGAIN, "another centernetd writes to"),
    ],
)
def test_shares_that_refuse_locks_are_distinguished_from_held_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, reason: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StartupError, match=reason):
        Storage(tmp_path).claim()

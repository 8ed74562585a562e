"""Having a running daemon read its configuration again."""

import os
import signal
import threading
import time
from pathlib import Path

from centernetd.errors import CenternetdError, ConfigError, StartupError
from centernetd.run.control import Control
from centernetd.sink.lockfile import is_held_by, said_in
from centernetd.sink.storage import LOCK_NAME

_PATIENCE = 30.0  # seconds; a stream that is changed may take 5 to be closed
_INTERVAL = 0.05  # seconds between two looks


def reload(storage_root: Path) -> str:
    """Have the daemon that writes to ``storage_root`` reload; returns what it changed.

    The disk may hang: that is waited for in a thread, which is left behind.

    Raises
    ------
    ConfigError
        When it refuses, and nothing has changed.
    StartupError
        When no daemon runs there, or it can't be reached.
    CenternetdError
        When it, or the disk, doesn't answer.
    """
    outcome: list[Control | CenternetdError] = []

    def wait() -> None:
        try:
            outcome.append(_reloaded(storage_root))
        except CenternetdError as error:
            outcome.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(_PATIENCE)
    if not outcome:
        raise CenternetdError(
            f"the daemon that writes to {storage_root} has not reloaded within {_PATIENCE:.0f} s: "
            "its log, /healthz and `centernetd status` say what it does; its disk may hang"
        )
    if isinstance(outcome[0], CenternetdError):
        raise outcome[0]
    if outcome[0].refusal:
        raise ConfigError(outcome[0].refusal)
    return outcome[0].outcome


def _reloaded(storage_root: Path) -> Control:
    """Ask for a reload, and return what the daemon says when it is through."""
    before = _find(storage_root)
    if not before.follows:
        raise StartupError(
            f"the centernetd that writes to {storage_root} (process {before.pid}) runs one source "
            "from its command line: it has no configuration to reload"
        )
    _ask(before.pid, storage_root / LOCK_NAME)
    while (now := _find(storage_root)).ended <= before.begun:
        time.sleep(_INTERVAL)
    return now


def _ask(pid: int, lock: Path) -> None:
    """Send the signal, unless another process than the one that holds ``lock`` would get it."""
    try:
        process = os.pidfd_open(pid)  # so that its number can't become another's
        try:
            if not is_held_by(lock, pid):
                raise StartupError(
                    f"{lock} names process {pid}, which does not hold it: nothing is signalled; "
                    "was it written by somebody else, or does the daemon run in a container?"
                )
            signal.pidfd_send_signal(process, signal.SIGHUP)
        finally:
            os.close(process)
    except OSError as error:
        raise StartupError(
            f"the daemon (process {pid}) can't be told to reload: {error.strerror}; run "
            "this as the daemon's user or as root"
        ) from None


def _find(storage_root: Path) -> Control:
    """Return what the daemon says, waiting for the end of a sentence half written."""
    path = storage_root / LOCK_NAME
    deadline = time.monotonic() + _PATIENCE / 2
    while time.monotonic() < deadline:
        try:
            said = said_in(path)
        except OSError as error:
            raise StartupError(f"{path}: can't be read: {error.strerror}") from None
        if said is None:
            raise StartupError(
                f"no centernetd writes to {storage_root}: start it first; one that systemd runs is "
                "reloaded with `systemctl reload centernetd`"
            )
        try:
            return Control.from_text(said)
        except ValueError:
            time.sleep(_INTERVAL)
    raise CenternetdError(f"{path}: makes no sense; restart the daemon")

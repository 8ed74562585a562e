"""Having a running daemon read its configuration again."""

import os
import signal
import time
from pathlib import Path

from daemon.control import Control
from daemon.errors import CenternetdError, ConfigError, StartupError
from daemon.sink.lockfile import said_in
from daemon.sink.storage import LOCK_NAME

_PATIENCE = 60.0  # seconds; a stream that is changed may take 5 to be closed
_INTERVAL = 0.05  # seconds between two looks


def reload(storage_root: Path) -> str:
    """Have the daemon that writes to ``storage_root`` reload; returns what it changed.

    Raises
    ------
    ConfigError
        When it refuses, and nothing has changed.
    StartupError
        When no daemon runs there, or it can't be reached.
    CenternetdError
        When it doesn't answer.
    """
    before = _find(storage_root)
    if not before.follows:
        raise StartupError(
            f"the centernetd that writes to {storage_root} (process {before.pid}) runs one source "
            "from its command line: it has no configuration to reload"
        )
    try:
        os.kill(before.pid, signal.SIGHUP)
    except OSError as error:
        raise StartupError(
            f"the daemon (process {before.pid}) can't be told to reload: {error.strerror}; run "
            "this as the daemon's user or as root"
        ) from None
    deadline = time.monotonic() + _PATIENCE
    while (now := _find(storage_root)).ended <= before.begun:
        if time.monotonic() > deadline:
            raise CenternetdError(
                f"the daemon (process {now.pid}) has not reloaded within {_PATIENCE:.0f} s: its "
                "log and `centernetd status` say what it does"
            )
        time.sleep(_INTERVAL)
    if now.refusal:
        raise ConfigError(now.refusal)
    return now.outcome


def _find(storage_root: Path) -> Control:
    """Return what the daemon says, waiting for the end of a sentence half written."""
    path = storage_root / LOCK_NAME
    deadline = time.monotonic() + _PATIENCE
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

"""Making a running daemon reload its configuration."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue

from centernetd.config.template import LOCK_NAME
from centernetd.errors import CenternetdError, ConfigError, StartupError
from centernetd.run.reload import ReloadStatus
from centernetd.sink.lockfile import is_held_by, published_in

_TIMEOUT = 30.0  # seconds without an answer; closing a changed stream may take 5
_INTERVAL = 0.05  # seconds between polls


def reload(storage_root: Path, report: Callable[[str], None] = lambda _: None) -> str:
    """Make the daemon that writes to ``storage_root`` reload; return what changed.

    However long the daemon loads models, this waits; a sentence about that goes to ``report``. The
    disk may hang, so the work is done in a thread, which is abandoned if it answers nothing.

    Raises
    ------
    ConfigError
        The daemon rejects the configuration; nothing has changed.
    StartupError
        No daemon runs there, or it can't be reached.
    CenternetdError
        The daemon or the disk doesn't answer.
    """
    answers: Queue[ReloadStatus | CenternetdError] = Queue()

    def ask() -> None:
        try:
            for status in _reloading(storage_root):
                answers.put(status)
        except CenternetdError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    reported = ""
    while isinstance(answer := _next(answers, storage_root), ReloadStatus) and answer.loading:
        if answer.loading != reported:
            reported = answer.loading
            report(f"the daemon is loading {reported}")
    if isinstance(answer, CenternetdError):
        raise answer
    if answer.refusal:
        raise ConfigError(answer.refusal)
    return answer.outcome


def _next(
    answers: "Queue[ReloadStatus | CenternetdError]", storage_root: Path
) -> ReloadStatus | CenternetdError:
    try:
        return answers.get(timeout=_TIMEOUT)
    except Empty:
        raise CenternetdError(
            f"the daemon that writes to {storage_root} has not reloaded within {_TIMEOUT:.0f} s: "
            "see its log, /healthz and `centernetd status`; its disk may hang"
        ) from None


def _reloading(storage_root: Path) -> Iterator[ReloadStatus]:
    """Request a reload; yield the daemon's status while it loads models, and at the end."""
    before = find_daemon(storage_root)
    if before is None:
        raise StartupError(
            f"no centernetd writes to {storage_root}: start it, or restart it if storage.root has "
            "changed; one that systemd runs is reloaded with `systemctl reload centernetd`"
        )
    if not before.follows:
        raise StartupError(
            f"the centernetd that writes to {storage_root} (process {before.pid}) runs one source "
            "from its command line: it has no configuration to reload"
        )
    _ask(before.pid, storage_root / LOCK_NAME)
    while now := find_daemon(storage_root):
        finished = now.ended > before.begun
        if finished or now.loading:
            yield now
        if finished:
            return
        time.sleep(_INTERVAL)
    raise StartupError(
        f"the centernetd that writes to {storage_root} exited before its answer was read: "
        "see its log"
    )


def _ask(pid: int, lock: Path) -> None:
    """Send the signal, but only to the process that holds ``lock``."""
    try:
        process = os.pidfd_open(pid)  # so that the process id can't be reused meanwhile
        try:
            if not is_held_by(lock, pid):
                raise StartupError(
                    f"{lock} names process {pid}, which does not hold it: nothing is signalled; "
                    "was it written by another program, or does the daemon run in a container?"
                )
            signal.pidfd_send_signal(process, signal.SIGHUP)
        finally:
            os.close(process)
    except OSError as error:
        raise StartupError(
            f"the daemon (process {pid}) can't be signalled: {error.strerror}; run this as the "
            "daemon's user or as root"
        ) from None


def find_daemon(storage_root: Path) -> ReloadStatus | None:
    """Return the status of the daemon that writes to ``storage_root``, None without a daemon.

    Raises
    ------
    StartupError
        Its lock file can't be read.
    CenternetdError
        It publishes no valid status, although that was waited for.
    """
    path = storage_root / LOCK_NAME
    deadline = time.monotonic() + _TIMEOUT / 2
    while time.monotonic() < deadline:
        try:
            text = published_in(path)
        except OSError as error:
            raise StartupError(f"{path}: can't be read: {error.strerror}") from None
        if text is None:
            return None
        try:
            return ReloadStatus.from_text(text)
        except ValueError:
            time.sleep(_INTERVAL)
    raise CenternetdError(f"{path}: is not valid; restart the daemon")

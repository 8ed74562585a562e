"""SIGTERM, SIGINT and SIGHUP, from the first moment of a run to its end; few imports."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

FORCE_AFTER = 1.0
"""Seconds after which a second signal forces the exit; `timeout` sends two in quick succession."""


def handle_early_signals() -> None:
    """Exit with 0 on SIGTERM and ignore SIGHUP, until `handle_signals` takes over.

    Nothing is open yet, and the configuration has yet to be read anyway.
    """
    signal.signal(signal.SIGTERM, _exit_early)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def _exit_early(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


@contextmanager
def handle_signals(stop: Callable[[], None], reload: Callable[[], None] | None) -> Iterator[None]:
    """Call ``stop`` on the first SIGTERM or SIGINT, and ``reload`` on each SIGHUP.

    A second SIGTERM or SIGINT, unless within `FORCE_AFTER`, or a third ends the process
    immediately. Without ``reload``, SIGHUP stops too. Stop signals that were ignored before, as
    under `nohup`, stay ignored.

    The handlers run in the main thread, which must therefore only wait. They interrupt it
    anywhere, so ``stop`` and ``reload`` must not take locks. The previous handlers are restored
    on exit; but after `handle_early_signals` the process is about to end, and ignores signals.
    """
    received: list[float] = []

    def handle(_signal: int, _frame: FrameType | None) -> None:
        received.append(time.monotonic())
        if len(received) == 1:
            stop()
        elif len(received) > 2 or received[-1] - received[0] >= FORCE_AFTER:
            os._exit(1)

    def handle_hangup(_signal: int, _frame: FrameType | None) -> None:
        (reload or stop)()  # a closing terminal sends several; none forces the exit

    handlers = {signal.SIGTERM: handle, signal.SIGINT: handle, signal.SIGHUP: handle_hangup}
    for number in (signal.SIGINT, *([] if reload else [signal.SIGHUP])):
        if signal.getsignal(number) is signal.SIG_IGN:
            del handlers[number]
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        # Python puts the default handlers back before it has ended; it keeps what is ignored.
        ending = former[signal.SIGTERM] is _exit_early
        for number, handler in former.items():
            signal.signal(number, signal.SIG_IGN if ending else handler)

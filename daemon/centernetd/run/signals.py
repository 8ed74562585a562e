"""SIGTERM, SIGINT and SIGHUP, from the first moment of a run to its end; imports little."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INSISTS_AFTER = 1.0
"""Seconds after which a second signal means it; `timeout` and others send two at once."""


def before_the_run() -> None:
    """End with 0 at a SIGTERM and pass over a SIGHUP, until `on_signals` takes over.

    Nothing is open yet, and the configuration that a SIGHUP asks to be read is still to be read.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@contextmanager
def on_signals(stop: Callable[[], None], reload: Callable[[], None] | None) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT, and ``reload`` at each SIGHUP.

    A second one, unless it comes within `INSISTS_AFTER`, or a third ends the process immediately.
    Without ``reload`` a SIGHUP stops too. Where a signal that would stop was ignored before, as
    `nohup` has it, it still is.

    The handlers run in the main thread, which therefore must only wait; it is interrupted
    anywhere, so ``stop`` and ``reload`` must take no lock. The former handlers are put back in
    the end.
    """
    received: list[float] = []

    def handle(_signal: int, _frame: FrameType | None) -> None:
        received.append(time.monotonic())
        if len(received) == 1:
            stop()
        elif len(received) > 2 or received[-1] - received[0] >= INSISTS_AFTER:
            os._exit(1)

    def handle_hangup(_signal: int, _frame: FrameType | None) -> None:
        (reload or stop)()  # a terminal that closes sends several, and none of them insists

    handlers = {signal.SIGTERM: handle, signal.SIGINT: handle, signal.SIGHUP: handle_hangup}
    for number in (signal.SIGINT, *([] if reload else [signal.SIGHUP])):
        if signal.getsignal(number) is signal.SIG_IGN:
            del handlers[number]
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

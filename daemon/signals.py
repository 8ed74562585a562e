"""SIGTERM, SIGINT and SIGHUP, for as long as the daemon runs."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_signals(stop: Callable[[], None], reload: Callable[[], None] | None) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT; a second one ends the process at once.

    ``reload`` is called at each SIGHUP; without it that is one more signal to stop.

    The handlers run in the main thread, which therefore must only wait; it is interrupted
    anywhere, so ``stop`` and ``reload`` must take no lock. The former handlers are put back in
    the end.
    """
    received = False

    def handle(_signal: int, _frame: FrameType | None) -> None:
        nonlocal received
        if received:
            os._exit(1)
        received = True
        stop()

    def handle_hangup(number: int, frame: FrameType | None) -> None:
        if reload is None:
            handle(number, frame)
        else:
            reload()

    handlers = dict.fromkeys(_STOPPING, handle) | {signal.SIGHUP: handle_hangup}
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

"""SIGTERM and SIGINT, for as long as the daemon runs."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_stop_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT; a second one ends the process at once.

    The handlers run in the main thread, which therefore must only wait. The former handlers
    are put back in the end.
    """
    received = False

    def handle(_signal: int, _frame: FrameType | None) -> None:
        nonlocal received
        if received:
            os._exit(1)
        received = True
        stop()

    former = {number: signal.signal(number, handle) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

"""A named thread that reports how it ended."""

import threading
import time
from collections.abc import Callable


class Worker:
    """Runs one stage in a thread of its own.

    ``run`` returns when its work is done or raises; either way ``on_exit`` is called in the
    thread with the worker, whose ``error`` then says how it ended. The thread is a daemon
    thread: one that is lost in native code can't keep the process alive.
    """

    def __init__(
        self, name: str, run: Callable[[], None], on_exit: Callable[["Worker"], None]
    ) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._run = run
        self._on_exit = on_exit
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, deadline: float) -> bool:
        """Wait until the monotonic time ``deadline``; returns whether the thread has ended."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error
        finally:
            self._on_exit(self)

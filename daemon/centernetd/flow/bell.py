"""A wake-up for a waiting thread, safe in signal handlers."""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the one thread that waits for it; any thread and a signal handler may ring it.

    A handler interrupts its thread anywhere. If that thread held the lock inside an Event, and
    the handler waited for it, both would wait forever; `SimpleQueue.put` takes no lock.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the waiting thread, or make its next wait return immediately."""
        self._rings.put(None)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for a ring, at most ``timeout`` seconds; all pending rings count as one."""
        with suppress(Empty):
            self._rings.get(timeout=timeout)
        for _ in range(self._rings.qsize()):
            self._rings.get_nowait()

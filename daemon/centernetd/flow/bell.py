"""What wakes a thread that waits."""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the one thread that waits for it; may be rung by any, and in a signal handler.

    A handler interrupts its thread anywhere. Had that one just taken the lock within an Event, for
    which the handler then waits, both would wait for ever: `SimpleQueue.put` takes none.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the thread that waits, or else let its next wait return at once."""
        self._rings.put(None)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for a ring, at most ``timeout`` seconds; all that came so far count as one."""
        with suppress(Empty):
            self._rings.get(timeout=timeout)
        for _ in range(self._rings.qsize()):
            self._rings.get_nowait()

"""A thread's exclusive right to read a source, and how long that thread has been away."""

import threading
import time
from collections.abc import Callable


class LeaseEndedError(Exception):
    """Another thread reads the source now; this one must not touch the stream any more."""


class Lease:
    """A thread's lease on its source, which ends if the thread does not return in time.

    The thread calls `wait` before it enters a library that may block, and `resume` after it.
    Other threads see how long it has been away. A lease can only end while its thread is away.
    This is checked again under the lock, as the thread may have returned and left meanwhile.
    So between `resume` and the next `wait` the thread owns the stream.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a lease; ``clock`` is monotonic, in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._stalled = False
        self._over = False

    def wait(self, since: float | None = None) -> None:
        """Record that the thread waits for the source, from now or ``since`` on."""
        self._since = self._clock() if since is None else since  # atomic

    def resume(self) -> bool:
        """Record that the thread has returned; return whether a stall was declared meanwhile.

        Raises
        ------
        LeaseEndedError
            When another thread has taken over.
        """
        with self._lock:
            if self._over:
                raise LeaseEndedError
            self._since = None
            return self._stalled

    def recover(self) -> bool:
        """Clear a declared stall; return whether there was one."""
        stalled, self._stalled = self._stalled, False
        return stalled

    @property
    def waited(self) -> float:
        """Seconds the thread has been waiting for the source; 0 while it is not."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    def declare_stall(self, after: float) -> bool:
        """Declare a stall of a thread away for ``after`` seconds; `resume` then returns True.

        Return False if it has not been away that long, or if its stall is already declared.
        """
        with self._lock:
            if self._since is None or self.waited < after or self._stalled or self._over:
                return False
            self._stalled = True
            return True

    def end(self, after: float) -> bool:
        """End the lease of a thread away for ``after`` seconds; return whether it has ended."""
        with self._lock:
            self._over |= self._since is not None and self.waited >= after
            return self._over

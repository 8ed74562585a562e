"""One thread's turn at reading a stream, and the clock that others read it by."""

import threading
import time
from collections.abc import Callable


class TurnOverError(Exception):
    """Another thread reads the stream now: this one may touch nothing of it any more."""


class Turn:
    """A thread's right to read its stream, which it loses if it doesn't come back in time.

    The thread says `wait` before it enters a library that may keep it, and `resume` when it is
    back. Other threads see how long it has been away. Its turn can end only while it is away,
    which is looked at again when it does: it may have come and gone meanwhile. So between
    `resume` and the next `wait` the stream is its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin a turn; ``clock`` is monotonic, in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._stalled = False
        self._over = False

    def wait(self, since: float | None = None) -> None:
        """Tell that the thread goes to the source, or that it has waited for it since then."""
        with self._lock:
            self._since = self._clock() if since is None else since

    def resume(self) -> bool:
        """Tell that the thread is back; returns whether a stall was declared meanwhile.

        Raises
        ------
        TurnOverError
            When another thread has taken over.
        """
        with self._lock:
            if self._over:
                raise TurnOverError
            self._since = None
            return self._stalled

    def recover(self) -> bool:
        """Put a declared stall behind; returns whether there was one."""
        stalled, self._stalled = self._stalled, False
        return stalled

    @property
    def waited(self) -> float:
        """Seconds since the thread went to the source; 0 while it is here."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    def declare_stall(self, after: float) -> bool:
        """Have `resume` tell of a stall of a thread that has been away for ``after`` seconds.

        Returns False when it hasn't, by now, or it is known.
        """
        with self._lock:
            if self._since is None or self.waited < after or self._stalled or self._over:
                return False
            self._stalled = True
            return True

    def end(self, after: float) -> bool:
        """Take the turn from a thread that has been away for so long; False when it hasn't."""
        with self._lock:
            self._over |= self._since is not None and self.waited >= after
            return self._over

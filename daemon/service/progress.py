"""Whether the inference thread and the supervisor still move."""

import time
from collections.abc import Callable

STALL_LIMIT = 9.0
"""Seconds without progress after which a thread counts as hung.

With systemd's 15 s after the last ping, 2 for the end, 2 until the restart, and a second for what
lies between, 30 s are kept.
"""


class Progress:
    """Two heartbeats: inference beats with every batch, the supervisor ticks about once a second.

    Inference may sleep as long as no frame waits, so its silence counts only from the last
    tick at which none did. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_at = self._idle_at = self._tick_at = clock()
        self._waiting = 0

    def beat(self) -> None:
        """Tell that inference has taken up or finished a batch; called in its thread."""
        self._beat_at = self._clock()

    def tick(self, waiting: int) -> None:
        """Tell that the supervisor lives and how many frames wait for inference or are in it."""
        self._tick_at = self._clock()
        self._waiting = waiting
        if not waiting:
            self._idle_at = self._tick_at

    def troubles(self) -> list[str]:
        """Return what hangs, one sentence each; nothing when all moves or is rightly idle."""
        now = self._clock()
        silent, late = now - max(self._beat_at, self._idle_at), now - self._tick_at
        troubles = []
        if late > STALL_LIMIT:
            troubles.append(f"the supervisor has not moved for {late:.1f} s")
        if self._waiting and silent > STALL_LIMIT:
            troubles.append(
                f"inference has not moved for {silent:.1f} s while {self._waiting} frames wait"
            )
        return troubles

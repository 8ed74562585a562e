"""Whether the inference thread and the supervisor still move."""

import time
from collections import deque
from collections.abc import Callable

STALL_LIMIT = 9.0
"""Seconds without progress after which a thread counts as hung, on a machine of usual speed.

With systemd's 15 s after the last ping, 2 for the end, 2 until the restart, and a second for what
lies between, 30 s are kept.
"""
_TIMES = 3  # as long as the slowest of the recent batches took, a batch may take
_RECENT = 16  # batches


class Progress:
    """Two heartbeats: inference beats with every batch, the supervisor ticks about twice a second.

    Inference may sleep as long as no frame waits, so its silence counts only from the last
    tick at which none did. Where batches take seconds, it may be silent for a multiple of what
    they took before. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_at = self._idle_at = self._tick_at = clock()
        self._waiting = 0
        self._took = deque([0.0], _RECENT)

    def beat(self, took: float) -> None:
        """Note that inference has taken up a batch, or finished one that took so many seconds."""
        self._beat_at = self._clock()
        if took:
            self._took.append(took)

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
        if self._waiting and silent > max(STALL_LIMIT, _TIMES * max(self._took.copy())):
            troubles.append(
                f"inference has not moved for {silent:.1f} s while {self._waiting} frames wait"
            )
        return troubles

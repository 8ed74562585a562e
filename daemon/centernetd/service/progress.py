"""Whether the inference thread and the supervisor are making progress."""

import time
from collections import deque
from collections.abc import Callable

STALL_LIMIT = 9.0
"""Seconds without progress after which a thread counts as hung, on a machine of usual speed.

Together with systemd's 15 s after the last ping, 2 s to stop, 2 s until the restart and 1 s of
slack, a hung daemon is replaced within 30 s.
"""
_TIMES = 3  # a batch may take this many times as long as the slowest recent one
_RECENT = 16  # batches


class Progress:
    """Two heartbeats: inference beats per batch, the supervisor ticks about twice per second.

    Inference may sleep while no frame waits, so its silence is measured from the last tick at
    which none did. If batches take seconds, it may be silent for a multiple of the recent batch
    durations. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_at = self._idle_at = self._tick_at = clock()
        self._waiting = 0
        self._took = deque([0.0], _RECENT)

    def beat(self, took: float) -> None:
        """Note that inference began a batch, or finished one that took ``took`` seconds."""
        self._beat_at = self._clock()
        if took:
            self._took.append(took)

    def tick(self, waiting: int) -> None:
        """Note that the supervisor is alive, and how many frames are waiting or in inference."""
        self._tick_at = self._clock()
        self._waiting = waiting
        if not waiting:
            self._idle_at = self._tick_at

    def troubles(self) -> list[str]:
        """Return a sentence for each thread that hangs; empty if all progress or have no work."""
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

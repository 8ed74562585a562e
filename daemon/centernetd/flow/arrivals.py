"""The lanes with frames that wait for inference, in the order of their turns."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from centernetd.flow.lane import Lane


class Arrivals:
    """A queue of the lanes with waiting frames; a lane is in it once, however many it has.

    Whoever serves it takes one frame per turn. So no lane is served twice between two turns of
    another one with frames waiting. Lanes `announce` their frames from any thread, without a lock
    for which all streams would compete. Everything else is called by the one thread that collects.
    """

    def __init__(self) -> None:
        # A deque's methods are atomic. One entry per frame; its lane may have lost it meanwhile.
        self._announced: deque[Lane] = deque()
        self._turns: deque[Lane] = deque()
        self._queued: set[Lane] = set()
        self._arrived = threading.Condition()
        self._enough = 0  # frames for which the collecting thread is woken; 0 unless it waits

    def announce(self, lane: "Lane", *, urgent: bool = False) -> None:
        """Note a frame in ``lane``; wake the waiting thread if enough wait, or if ``urgent``."""
        self._announced.append(lane)
        # `wait` writes `_enough` before it looks for announcements, so one of both sees the other.
        if self._enough and (urgent or len(self._announced) >= self._enough):
            self.wake()

    def wake(self) -> None:
        """Wake the thread that waits, if any, once."""
        with self._arrived:
            self._enough = 0
            self._arrived.notify_all()

    def wait(
        self,
        enough: int,
        timeout: float | None,
        wait: Callable[[threading.Condition, float | None], None],
    ) -> None:
        """Wait until ``enough`` frames are announced, or an urgent one; not if any are already.

        Waking the thread for each would cost more than collecting them. ``wait`` is called with
        a condition, which is held, and ``timeout`` in seconds.
        """
        with self._arrived:
            self._enough = enough
            if not self._announced:
                wait(self._arrived, timeout)
            self._enough = 0

    def next(self) -> "Lane | None":
        """Return the lane whose turn it is, which leaves the queue; its frames may be gone."""
        while self._announced:
            lane = self._announced.popleft()
            if lane not in self._queued:
                self.requeue(lane)
        if not self._turns:
            return None
        lane = self._turns.popleft()
        self._queued.remove(lane)
        return lane

    def requeue(self, lane: "Lane", *, first: bool = False) -> None:
        """Queue ``lane`` again: as the last, or as the first if its turn was not used."""
        self._queued.add(lane)
        if first:
            self._turns.appendleft(lane)
        else:
            self._turns.append(lane)

"""The lanes with frames that wait for inference, in the order of their turns."""

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from centernetd.flow.lane import Lane


class Arrivals(threading.Condition):
    """A queue of the lanes with waiting frames; a lane is in it once, however many it has.

    Whoever serves it takes one frame per turn. So no lane is served twice between two turns of
    another one with frames waiting. It must be held to call any method. It is notified when
    ``enough`` frames wait, since waking a thread for each would cost more than collecting them,
    or when a lane is full, since its next frame would replace one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enough = 1
        self._frames = 0
        self._lanes: deque[Lane] = deque()
        self._queued: set[Lane] = set()

    def add(self, lane: "Lane", frames: int, *, full: bool) -> None:
        """Count ``frames`` more of ``lane``, now ``full`` or not, and queue it if it isn't yet."""
        self._frames += frames
        if lane not in self._queued:
            self._queued.add(lane)
            self._lanes.append(lane)
        if full or self._frames >= self.enough:
            self.notify_all()

    def remove(self) -> None:
        """Count a frame less."""
        self._frames -= 1

    def next(self) -> "Lane | None":
        """Return the lane whose turn it is, which leaves the queue; its frames may be gone."""
        if not self._lanes:
            return None
        lane = self._lanes.popleft()
        self._queued.remove(lane)
        return lane

    def requeue(self, lane: "Lane", *, first: bool = False) -> None:
        """Queue ``lane`` again: as the last, or as the first if its turn was not used."""
        self._queued.add(lane)
        if first:
            self._lanes.appendleft(lane)
        else:
            self._lanes.append(lane)

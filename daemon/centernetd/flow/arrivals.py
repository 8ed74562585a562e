"""The lanes with frames that wait for a model, in the order of their turns."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from centernetd.flow.inbox import Inbox


class Arrivals:
    """A queue of the lanes with frames for one model; each is in it once, however many it has.

    It holds their inboxes for that model. Whoever serves it takes one frame per turn. So no lane
    is served twice between two turns of another one with frames waiting. Lanes `announce` their
    frames from any thread, without a lock for which all streams would compete. Everything else is
    called by the one thread that collects.
    """

    def __init__(self) -> None:
        # A deque's methods are atomic. One entry per frame; its inbox may have lost it meanwhile.
        self._announced: deque[Inbox] = deque()
        self._turns: deque[Inbox] = deque()
        self._queued: set[Inbox] = set()
        self._arrived = threading.Condition()
        self._enough = 0  # frames for which the collecting thread is woken; 0 unless it waits

    def announce(self, inbox: "Inbox", *, urgent: bool = False) -> None:
        """Note a frame in ``inbox``; wake the waiting thread if enough wait, or if ``urgent``."""
        self._announced.append(inbox)
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

    def next(self) -> "Inbox | None":
        """Return the inbox whose turn it is, which leaves the queue; its frames may be gone."""
        while self._announced:
            inbox = self._announced.popleft()
            if inbox not in self._queued:
                self.requeue(inbox)
        if not self._turns:
            return None
        inbox = self._turns.popleft()
        self._queued.remove(inbox)
        return inbox

    def requeue(self, inbox: "Inbox", *, first: bool = False) -> None:
        """Queue ``inbox`` again: as the last, or as the first if its turn was not used."""
        self._queued.add(inbox)
        if first:
            self._turns.appendleft(inbox)
        else:
            self._turns.append(inbox)

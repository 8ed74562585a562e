"""When to log a problem that lasts, or that comes and goes."""

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable

_MAX_CAUSES = 32  # causes remembered; the one logged longest ago is forgotten


class Incident:
    """Decides what is logged about a problem: its beginning, and its end if that was logged.

    Without ``interval``, it is logged once until it is `resolved`. With one, each cause is logged
    at most once per ``interval`` seconds, with its number of occurrences since, even if the
    problem is resolved and returns in between. ``clock`` is monotonic, in seconds.

    This is for states. What may happen with every frame and has no end is just logged: the log's
    handler groups it (`centernetd.service.logs`).
    """

    def __init__(
        self, interval: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._logged_at: dict[Hashable, float] = {}  # by cause, oldest first
        self._unlogged: Counter[Hashable] = Counter()
        self._open = False

    def occurred(self, cause: Hashable = None) -> int:
        """Return how often ``cause`` occurred since it was logged; 0 if it is not to be logged."""
        now = self._clock()
        self._unlogged[cause] += 1
        if cause in self._logged_at and now - self._logged_at[cause] < self._interval:
            return 0
        self._open = True
        self._logged_at.pop(cause, None)
        self._logged_at[cause] = now
        times = self._unlogged.pop(cause)
        if len(self._logged_at) > _MAX_CAUSES:
            forgotten = next(iter(self._logged_at))
            del self._logged_at[forgotten], self._unlogged[forgotten]
        return times

    def resolved(self) -> bool:
        """Return whether to log that the trouble is over; call it whenever all is well."""
        if self._interval == math.inf:
            self._logged_at.clear()
            self._unlogged.clear()
        logged, self._open = self._open, False
        return logged

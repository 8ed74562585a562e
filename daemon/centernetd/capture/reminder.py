"""Causes that come back for hours, told at once and then once a minute."""

import time
from collections import Counter
from collections.abc import Callable

INTERVAL = 60.0
"""Seconds after which a cause that is still there is told again."""
_MOST = 32  # causes that are remembered; what was not told for longest goes


class Reminder:
    """Decides what of a stream's failures is logged.

    A sentence is told at once when it is a new one of its kind; the same again only after
    `INTERVAL`, with the number of times it came meanwhile, whatever else came in between.
    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # when, the longest ago first
        self._held: Counter[tuple[str, str]] = Counter()

    def count(self, kind: str, sentence: str) -> int:
        """Return how often it has come since it was last told, or 0 where it is not told now."""
        now, cause = self._clock(), (kind, sentence)
        self._held[cause] += 1
        if cause in self._told and now - self._told[cause] < INTERVAL:
            return 0
        self._told.pop(cause, None)
        self._told[cause] = now
        times = self._held.pop(cause)
        if len(self._told) > _MOST:
            forgotten = next(iter(self._told))
            del self._told[forgotten], self._held[forgotten]
        return times

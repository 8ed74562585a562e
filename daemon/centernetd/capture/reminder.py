"""Rate limit for log messages about recurring failures: the first, then one per minute."""

import time
from collections import Counter
from collections.abc import Callable

INTERVAL = 60.0
"""Seconds after which a persisting cause is logged again."""
_MOST = 32  # causes remembered; the one logged longest ago is dropped


class Reminder:
    """Decides which failures of a stream are logged.

    A new sentence of its kind is logged immediately. It is logged again only after `INTERVAL`,
    with its number of occurrences since, regardless of other failures in between.
    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # time of logging, oldest first
        self._held: Counter[tuple[str, str]] = Counter()

    def count(self, kind: str, sentence: str) -> int:
        """Return the occurrences since the last log line, or 0 if it is not to be logged now."""
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

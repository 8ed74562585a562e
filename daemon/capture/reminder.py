"""Causes that come back for hours, told at once and then once a minute."""

import time
from collections.abc import Callable

INTERVAL = 60.0
"""Seconds after which a cause that is still there is told again."""


class Reminder:
    """Decides what of a stream's failures is logged.

    A sentence is told at once when it is a new one of its kind; the same again only after
    `INTERVAL`, with the number of times it came meanwhile. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[str, float]] = {}
        self._held: dict[str, int] = {}

    def count(self, kind: str, sentence: str) -> int:
        """Return how often it has come since it was last told, or 0 where it is not told now."""
        now = self._clock()
        self._held[kind] = self._held.get(kind, 0) + 1
        told, told_at = self._told.get(kind, (None, now))
        if sentence == told and now - told_at < INTERVAL:
            return 0
        self._told[kind] = sentence, now
        return self._held.pop(kind)

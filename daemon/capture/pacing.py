"""Letting frames through at the right moments: evenly thinned, or at the source's own pace."""

import random
import threading
import time
from collections.abc import Iterator

_FIRST_WAIT = 0.5  # seconds
_LONGEST_WAIT = 5.0
_ROUNDING = 1e-3  # pts are rounded to their time base


class Thinner:
    """Lets at most ``max_fps`` frames a second of stream time through, evenly spread."""

    def __init__(self, max_fps: float | None) -> None:
        self._interval = 0.0 if max_fps is None else 1 / max_fps
        self._due: float | None = None

    def wants(self, at: float) -> bool:
        """Return whether the frame at ``at`` seconds of its stream is let through."""
        if self._due is None or at - self._due > self._interval:
            self._due = at  # the first frame, or the first after a gap
        if at < self._due - _ROUNDING:
            return False
        self._due += self._interval  # from when it was due, so that the mean rate is kept
        return True


class Pacer:
    """Holds frames of a file back until their time has come, as a camera would give them."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._offset: float | None = None

    def wait(self, at: float) -> None:
        """Return when the frame at ``at`` seconds of its stream is due, or ``stop`` is set."""
        now = time.monotonic()
        if self._offset is None:
            self._offset = now - at
        self._stop.wait(max(0.0, self._offset + at - now))


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before each next try: doubling, with jitter, up to 5 s.

    The jitter (up to a quarter less) keeps cameras behind one switch from coming back as one.
    """
    wait = _FIRST_WAIT
    while True:
        yield wait * random.uniform(0.75, 1.0)  # noqa: S311 (nothing is secret here)
        wait = min(wait * 2, _LONGEST_WAIT)

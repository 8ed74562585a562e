"""Frames per second over the last few seconds, for the status page."""

from collections.abc import Iterable
from typing import NamedTuple

from centernetd.flow import Lane

WINDOW = 5.0
"""Seconds over which a rate is averaged."""


class _Sample(NamedTuple):
    """The number of frames of ``lane`` inferred up to the monotonic time ``at``."""

    lane: Lane
    at: float
    inferred: int


class Rates:
    """Keeps each stream's inferred frames at the supervisor's most recent ticks.

    One thread ticks, any thread reads. Prometheus computes its own rates from the counters.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[_Sample]] = {}

    def tick(self, lanes: Iterable[Lane], now: float) -> None:
        """Note the counts at monotonic ``now``; removed lanes are forgotten."""
        samples = {}
        for lane in lanes:
            known = self._samples.get(lane.name, ())
            kept = [s for s in known if s.lane is lane and now - s.at <= WINDOW]
            samples[lane.name] = [*kept, _Sample(lane, now, lane.ledger.read().inferred)]
        self._samples = samples

    def fps(self, stream: str) -> float:
        """Return the frames inferred per second; 0 until two ticks have passed."""
        samples = self._samples.get(stream)
        if not samples:
            return 0.0
        first, last = samples[0], samples[-1]
        seconds = last.at - first.at
        return (last.inferred - first.inferred) / seconds if seconds > 0 else 0.0

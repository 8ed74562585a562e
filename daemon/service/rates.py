"""Frames a second over the last seconds, for the status page."""

from collections.abc import Iterable

from daemon.flow import Lane

WINDOW = 5.0
"""Seconds a rate is taken over."""


class Rates:
    """Remembers each stream's inferred frames at the supervisor's last ticks.

    One thread ticks, any thread reads. Prometheus takes its own rates from the counters.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, int]]] = {}

    def tick(self, lanes: Iterable[Lane], now: float) -> None:
        """Note the counts at monotonic ``now``; streams that are gone are forgotten."""
        samples = {}
        for lane in lanes:
            known = self._samples.get(lane.name, ())
            kept = [sample for sample in known if now - sample[0] <= WINDOW]
            samples[lane.name] = [*kept, (now, lane.ledger.read().inferred)]
        self._samples = samples

    def forget(self, stream: str) -> None:
        """Begin anew with the next stream of that name."""
        self._samples.pop(stream, None)

    def fps(self, stream: str) -> float:
        """Return the frames inferred a second; 0 until two ticks have passed."""
        samples = self._samples.get(stream)
        if not samples:
            return 0.0
        (start, before), (end, after) = samples[0], samples[-1]
        return (after - before) / (end - start) if end > start else 0.0

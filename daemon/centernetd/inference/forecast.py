"""Predicting the duration of a batch, learned while running."""

_WEIGHT = 0.2  # of the newest batch in the moving average: settles within about ten batches


class Forecast:
    """Predicts the seconds from collecting a batch to its detections, by batch size.

    Each size has an exponential moving average. A size is assumed to take no longer than a
    larger one that was seen, and no longer per frame than a smaller one. So one slow batch does
    not exclude its size permanently: the sizes still used show when it is over.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Record that a batch of ``size`` took ``seconds``."""
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _WEIGHT * (seconds - known)

    def predict(self, size: int) -> float:
        """Return the predicted seconds for a batch of ``size``; 0 while nothing is known."""
        bounds = (took * max(1.0, size / known) for known, took in self._seconds.items())
        return min(bounds, default=0.0)

    def largest(self, max_size: int, budget: float) -> int:
        """Return the largest size up to ``max_size`` done within ``budget`` seconds; at least 1."""
        return next((n for n in range(max_size, 1, -1) if self.predict(n) <= budget), 1)

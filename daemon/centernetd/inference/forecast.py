"""How long a batch takes, learned while running."""

_WEIGHT = 0.2  # of the newest batch in the moving average: settles within some ten batches


class Forecast:
    """Predicts the seconds from collecting a batch to its detections, by batch size.

    An exponential moving average a size. No size is taken to need longer than a larger one that
    was seen, nor longer a frame than a smaller one. So one slow batch doesn't shut its size out
    for good: the sizes that still run tell that it is over.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Note that a batch of ``size`` took ``seconds``."""
        known = self._seconds.get(size, seconds)
        self._seconds[size] = known + _WEIGHT * (seconds - known)

    def predict(self, size: int) -> float:
        """Return the seconds that a batch of ``size`` will take; 0 while nothing is known."""
        bounds = (took * max(1.0, size / known) for known, took in self._seconds.items())
        return min(bounds, default=0.0)

    def largest(self, max_size: int, budget: float) -> int:
        """Return the largest size up to ``max_size`` done within ``budget`` seconds; at least 1."""
        return next((n for n in range(max_size, 1, -1) if self.predict(n) <= budget), 1)

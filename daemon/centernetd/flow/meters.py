"""The interface through which stages report durations and sizes."""


class Meters:
    """Receives measurements from stages; this base class discards them.

    The service subclasses it with Prometheus histograms. Methods are called per frame or
    per batch, from any thread, and must be fast.
    """

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Report the duration of one step: decode, preprocess, execute, annotate, encode."""

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Report the time from decoding a frame to passing its detections to the sinks."""

    def plan_build(self, seconds: float) -> None:
        """Report the duration of a plan build."""

    def batch_size(self, size: int) -> None:
        """Report the number of frames in a batch."""

"""What stages report beyond frame counts: durations and sizes."""


class Meters:
    """Where stages report measurements; this one forgets them.

    The service subclasses it with Prometheus histograms. Its methods are called once a frame
    or a batch from any thread and must be quick.
    """

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Report how long one step took: decode, preprocess, execute, annotate, encode."""

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Report the time from decoding a frame to handing its detections to the sinks."""

    def plan_build(self, seconds: float) -> None:
        """Report how long the building of a plan took."""

    def batch_size(self, size: int) -> None:
        """Report how many frames ran together."""

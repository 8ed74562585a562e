"""The measurements that stages report, as Prometheus histograms."""

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics

from daemon.flow import Meters

STAGES = ("decode", "preprocess", "copy_in", "execute", "copy_out", "annotate", "encode")
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.5, 10.0)
BUILD_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
SIZES = (1, 2, 4, 8, 16, 32, 64)

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each histogram has a twin


class PrometheusMeters(Meters):
    """Histograms on ``registry``; one report costs some microseconds and takes one lock."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._batches = Histogram(
            "centernetd_batch_size", "Frames that ran together.", buckets=SIZES, registry=registry
        )
        self._durations = Histogram(
            "centernetd_stage_duration_seconds",
            "Time one step took; a batch counts once where steps are done for a batch.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._latencies = Histogram(
            "centernetd_frame_latency_seconds",
            "Time from decoding a frame to handing its detections to the sinks.",
            ["stream"],
            buckets=SECONDS,
            registry=registry,
        )
        self._builds = Histogram(
            "centernetd_plan_build_seconds",
            "Time the building of a TensorRT plan took.",
            buckets=BUILD_SECONDS,
            registry=registry,
        )
        self._stages = {stage: self._durations.labels(stage) for stage in STAGES}
        self._streams: dict[str, Histogram] = {}

    def add_stream(self, name: str) -> None:
        """Make the stream's series, at 0; only streams added here are measured."""
        self._streams[name] = self._latencies.labels(name)

    def remove_stream(self, name: str) -> None:
        """Let the stream's series go; a report that comes late is forgotten."""
        del self._streams[name]
        self._latencies.remove(name)

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Report how long one step took; ``stage`` is one of `STAGES`."""
        self._stages[stage].observe(seconds)

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Report the time from decoding a frame to handing its detections to the sinks."""
        series = self._streams.get(stream)
        if series is not None:
            series.observe(seconds)

    def plan_build(self, seconds: float) -> None:
        """Report how long the building of a plan took."""
        self._builds.observe(seconds)

    def batch_size(self, size: int) -> None:
        """Report how many frames ran together."""
        self._batches.observe(size)

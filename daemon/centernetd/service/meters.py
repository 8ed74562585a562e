"""The measurements that stages report, as Prometheus histograms."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics

from centernetd.flow import Meters
from centernetd.service.metrics import PREFIX

STAGES = ("decode", "preprocess", "copy_in", "execute", "copy_out", "annotate", "encode")
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.5, 10.0)
LATENCIES = (0.0005, 0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BUILD_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
SIZES = (1, 2, 4, 8, 16, 32, 64)

disable_created_metrics()  # type: ignore[no-untyped-call]  # else each histogram gets a second series


@dataclass(frozen=True)
class HistogramDefinition:
    """A histogram: its name without prefix, labels, help and the upper bounds of its buckets."""

    name: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...]

    def make(self, registry: CollectorRegistry) -> Histogram:
        """Return the histogram, registered."""
        return Histogram(
            PREFIX + self.name, self.help, self.labels, buckets=self.buckets, registry=registry
        )


BATCH_SIZE = HistogramDefinition("batch_size", (), "Frames per batch.", SIZES)
STAGE_DURATION = HistogramDefinition(
    "stage_duration_seconds",
    ("stage",),
    "Time one step took. Steps done for a whole batch count once per batch.",
    SECONDS,
)
FRAME_LATENCY = HistogramDefinition(
    "frame_latency_seconds",
    ("stream",),
    "Time from decoding a frame to handing its detections to the sinks.",
    LATENCIES,
)
PLAN_BUILD = HistogramDefinition(
    "plan_build_seconds", (), "Time the building of a TensorRT plan took.", BUILD_SECONDS
)
HISTOGRAMS = (STAGE_DURATION, FRAME_LATENCY, BATCH_SIZE, PLAN_BUILD)


class PrometheusMeters(Meters):
    """Histograms in ``registry``; each report takes one lock and some microseconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._batches = BATCH_SIZE.make(registry)
        self._durations = STAGE_DURATION.make(registry)
        self._latencies = FRAME_LATENCY.make(registry)
        self._builds = PLAN_BUILD.make(registry)
        for stage in STAGES:
            self._durations.labels(stage)
        self._streams: dict[str, Histogram] = {}

    def add_stream(self, name: str) -> None:
        """Create the stream's series, at 0; only streams added here are measured."""
        self._streams[name] = self._latencies.labels(name)

    def remove_stream(self, name: str) -> None:
        """Remove the stream's series; later reports are ignored."""
        del self._streams[name]
        self._latencies.remove(name)

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Report how long a step took: one of `STAGES`, or one specific to an engine."""
        self._durations.labels(stage).observe(seconds)

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Report the time from decoding a frame to handing its detections to the sinks."""
        series = self._streams.get(stream)
        if series is not None:
            series.observe(seconds)

    def plan_build(self, seconds: float) -> None:
        """Report how long building a plan took."""
        self._builds.observe(seconds)

    def batch_size(self, size: int) -> None:
        """Report how many frames ran together."""
        self._batches.observe(size)

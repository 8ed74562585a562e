"""Every metric: those read from the lanes on each scrape, and the histograms that stages fill."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from centernetd.flow import Meters, StreamState
from centernetd.service.health import StreamView
from centernetd.service.status import DaemonStatus
from centernetd.track.counts import DWELLS, TrackLedger

PREFIX = "centernetd_"

Subject = TypeVar("Subject")

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the order of a metric's labels, each with the sample's value."""
Distribution = tuple[Sequence[str], Sequence[int], float]
"""Label values, the number of observations by bucket (the last beyond all bounds), and sum."""

NO_TRACKS = TrackLedger({}, {}, {}).read()


class StreamReading:
    """One stream at the moment of a scrape: one consistent copy of its ledger, one time."""

    def __init__(self, view: StreamView, now: float) -> None:
        self.view = view
        self.now = now
        self.lane = view.lane
        self.status = view.lane.status
        self.book = view.lane.ledger.read()
        self.tracks = NO_TRACKS if view.tracks is None else view.tracks.read()


@dataclass(frozen=True)
class Definition(Generic[Subject]):
    """A metric, and how to read its samples from a stream or from the daemon."""

    name: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Subject], Samples]

    def family(self, samples: Samples = ()) -> Metric:
        """Return the metric with its samples; a family's name omits the suffix of its type."""
        sample, name, kind = PREFIX + self.name, PREFIX + self.name, "gauge"
        for suffix, kind_of_it in (("_total", "counter"), ("_info", "info")):
            if self.name.endswith(suffix):
                name, kind = name.removesuffix(suffix), kind_of_it
        metric = Metric(name, self.help, kind)
        for values, number in samples:
            metric.add_sample(sample, dict(zip(self.labels, values, strict=True)), float(number))
        return metric

    def collect(self, sources: Iterable[tuple[tuple[str, ...], Subject]]) -> Metric:
        """Return the metric with the samples of all ``sources``; each brings its own labels."""
        return self.family(
            (leading + values, number)
            for leading, source in sources
            for values, number in self.read(source)
        )


def _one(value: float) -> Samples:
    return (((), value),)


def _counted(counter: Mapping[str, int]) -> Samples:
    # Copied in one step, because another thread may add a key during the iteration.
    return (((key,), count) for key, count in dict(counter).items())


def _detected(stream: StreamReading) -> Samples:
    return dict(stream.status.detections).items()


def _dropped(stream: StreamReading) -> Samples:
    dropped = stream.book.dropped.items()
    return (((stage, reason.value), count) for (stage, reason), count in dropped)


def _surfaces(stream: StreamReading) -> Samples:
    held = len(stream.status.surfaces)
    return _one(held) if held or stream.status.decoder.endswith("(cuda)") else ()


def _queues(daemon: DaemonStatus) -> Samples:
    for view in daemon.streams:
        yield (f"{view.name}/inbox",), view.lane.waiting
        for sink, outlet in view.lane.outlets.items():
            yield (f"{view.name}/{sink}",), len(outlet)


def _known(value: float | None) -> Samples:
    return () if value is None else _one(value)


def _engine_info(daemon: DaemonStatus) -> Samples:
    for model in daemon.models:
        ran = model.engine
        yield (ran.backend, ran.precision, ran.device, model.name, ran.layout), 1


# fmt: off
STREAM_METRICS: tuple[Definition[StreamReading], ...] = (
    Definition("frames_captured_total", ("stream",),
               "Frames decoded.",
               lambda s: _one(s.book.captured)),
    Definition("frames_inferred_total", ("stream",),
               "Frames the detector ran on.",
               lambda s: _one(s.book.inferred)),
    Definition("frames_dropped_total", ("stream", "stage", "reason"),
               "Frames lost, by place and cause.",
               _dropped),
    Definition("frames_written_total", ("stream", "sink"),
               "Frames stored in the sink's file.",
               lambda s: (((sink,), n) for sink, n in s.book.written.items())),
    Definition("frames_in_flight", ("stream", "stage"),
               "Frames that have entered a stage and not left it.",
               lambda s: (((stage,), n) for stage, n in s.book.in_flight.items())),
    Definition("frames_damaged_total", ("stream",),
               "Broken frames and packets that were skipped; they never count as captured.",
               lambda s: _one(s.status.damaged)),
    Definition("detections_total", ("stream", "model", "label"),
               "Objects detected, by model and label: those in detect.labels, else the model's "
               "first 20; all others count as other. A label that is not in detect.labels exists "
               "from its first detection on, if the model has others.",
               _detected),
    Definition("privacy_frames_withheld_total", ("stream", "reason"),
               "Frames of a stream with privacy.blur whose picture was not given out: it could not "
               "be covered (failed), or not in time (shutdown).",
               lambda s: _counted(s.status.withheld)),
    Definition("tracks_started_total", ("stream", "label"),
               "Objects followed from frame to frame, once each is confirmed; labels as in "
               "detections_total. This and what follows exist for streams that are tracked.",
               lambda s: _counted(s.tracks.started)),
    Definition("tracks_ended_total", ("stream", "label"),
               "Objects that have not been seen for track.max_gap. Started = ended + live.",
               lambda s: _counted(s.tracks.ended)),
    Definition("tracks_live", ("stream",),
               "Objects followed now.",
               lambda s: _one(sum(s.tracks.live.values())) if s.view.tracks else ()),
    Definition("line_crossings_total", ("stream", "line", "direction", "label"),
               "Times an object crossed a line, in (to the right, looking from its beginning to "
               "its end) or out; label is all where the line names none.",
               lambda s: s.tracks.crossings.items()),
    Definition("zone_entries_total", ("stream", "zone", "label"),
               "Visits to a zone of at least min_dwell; label is all where the zone names none.",
               lambda s: s.tracks.entries.items()),
    Definition("zone_exits_total", ("stream", "zone", "label"),
               "Visits that have ended. Entries = exits + zone_objects.",
               lambda s: s.tracks.exits.items()),
    Definition("zone_objects", ("stream", "zone", "label"),
               "Objects in a zone now.",
               lambda s: s.tracks.inside.items()),
    Definition("reconnects_total", ("stream", "reason"),
               "Times the source had to be reconnected.",
               lambda s: _counted(s.status.reconnects)),
    Definition("bytes_written_total", ("stream",),
               "Bytes of video written.",
               lambda s: _one(s.status.bytes_written)),
    Definition("segments_total", ("stream",),
               "Video files completed.",
               lambda s: _one(s.status.segments)),
    Definition("frame_age_seconds", ("stream",),
               "Time since the last frame or, before the first, since the start. Absent once a "
               "file has finished.",
               lambda s: () if s.view.finished else _one(s.view.age(s.now))),
    Definition("stream_up", ("stream",),
               "1 while the stream runs and its last frame is no older than stall_timeout, else 0. "
               "Absent once a file has finished: it is neither up nor down.",
               lambda s: () if s.view.finished else _one(s.view.fresh(s.now))),
    Definition("stream_state", ("stream", "state"),
               "1 for the state the stream is in, 0 for the others.",
               lambda s: (((state.value,), state is s.view.state) for state in StreamState)),
    Definition("stream_frozen", ("stream",),
               "1 while a live source keeps repeating the same picture.",
               lambda s: _one(s.status.frozen)),
    Definition("capture_threads_lost", ("stream",),
               "Capture threads that have not returned from a library call.",
               lambda s: _one(s.status.lost_threads)),
    Definition("gpu_surfaces_held", ("stream",),
               "Decoded pictures that GPU memory holds: those waiting, in inference, and in use by "
               "sinks. Absent where the CPU decodes.",
               _surfaces),
    Definition("source_lag_seconds", ("stream",),
               "How far a live source's timeline lags behind the clock.",
               lambda s: _one(s.status.source_lag)),
    Definition("stream_info", ("stream", "codec", "decoder", "encoder"),
               "Always 1: the stream's codec, decoder and encoder.",
               lambda s: (((s.status.codec, s.status.decoder, s.status.encoder), 1),)),
)
DAEMON_METRICS: tuple[Definition[DaemonStatus], ...] = (
    Definition("queue_frames", ("queue",),
               "Frames waiting in a queue: STREAM/inbox before inference, STREAM/record and "
               "STREAM/events before the sinks.",
               _queues),
    Definition("slots_busy", (),
               "Slots of the models' rings that hold a batch.",
               lambda d: _one(sum(model.slots_busy for model in d.models))),
    Definition("model_inferences_total", ("model",),
               "Frames that a model ran on, also before it was released or loaded again. A "
               "stream's frame counts as inferred once all of the stream's models have run.",
               lambda d: _counted(d.inferences())),
    Definition("storage_bytes", (),
               "Size of the recordings and events to which the limits under storage apply: those "
               "of cameras, including open files. Absent until they have been counted.",
               lambda d: _known(d.storage.size)),
    Definition("storage_free_bytes", (),
               "Free space where recordings go, measured within the last second: a scrape does "
               "not access the disk. Absent while the disk can't be queried, or is not mounted as "
               "storage.require_mount requires.",
               lambda d: _known(d.storage.free)),
    Definition("oldest_segment_timestamp_seconds", (),
               "When the oldest of them was last written, as Unix time. Absent while there are "
               "none.",
               lambda d: _known(d.storage.oldest)),
    Definition("build_info", ("version",),
               "Always 1: the running version.",
               lambda d: (((d.version,), 1),)),
    Definition("engine_info", ("backend", "precision", "device", "model", "layout"),
               "Always 1: what a model runs on. Absent until it is loaded.",
               _engine_info),
    Definition("config_info", ("sha256",),
               "Always 1: the configuration in force.",
               lambda d: (((d.config_sha256,), 1),)),
    Definition("config_last_reload_successful", (),
               "1 unless the last reload was refused.",
               lambda d: _one(d.last_reload_succeeded)),
)
# fmt: on


STAGES = (
    *("decode", "preprocess", "copy_in", "execute", "copy_out"),
    *("track", "privacy", "annotate", "encode"),
)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.5, 10.0)
LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BUILD_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
SIZES = (1, 2, 4, 8, 16, 32, 64)
_NOTED = 1000  # observations that may wait to be counted


@dataclass(frozen=True)
class HistogramDefinition:
    """A histogram: its name without prefix, labels, help and the upper bounds of its buckets."""

    name: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...]

    def family(self, series: Iterable[Distribution] = ()) -> Metric:
        """Return the metric with its series."""
        metric = HistogramMetricFamily(PREFIX + self.name, self.help, labels=self.labels)
        bounds = [*map(floatToGoString, self.buckets), "+Inf"]
        for values, counts, total in series:
            sums = itertools.accumulate(counts)
            metric.add_metric(
                values, [(bound, float(n)) for bound, n in zip(bounds, sums, strict=True)], total
            )
        return metric


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
ZONE_DWELL = HistogramDefinition(
    "zone_dwell_seconds", ("stream", "zone"), "How long each visit to a zone lasted.", DWELLS
)
HISTOGRAMS = (STAGE_DURATION, FRAME_LATENCY, BATCH_SIZE, PLAN_BUILD, ZONE_DWELL)


def _dwells(readings: Iterable[StreamReading]) -> Iterator[Distribution]:
    """Yield how long visits lasted, by stream and zone: the ledgers of tracks hold that."""
    for reading in readings:
        for zone, dwells in reading.tracks.dwells.items():
            yield (reading.view.name, zone), dwells.buckets, dwells.seconds


class PipelineCollector(Collector):
    """Reads the lanes' ledgers and statuses when scraped, so that nothing is counted twice.

    It is stateless: a removed stream's series disappear with it, and scrapes may run
    concurrently. The only locks it takes are the lanes', each for the time of a copy.
    """

    def __init__(self, status: DaemonStatus) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        """Return every metric without samples; the registry checks for duplicate names."""
        of_streams = [metric.family() for metric in STREAM_METRICS]
        return [*of_streams, ZONE_DWELL.family(), *(metric.family() for metric in DAEMON_METRICS)]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its current samples."""
        now = time.monotonic()
        readings = [((view.name,), StreamReading(view, now)) for view in self._status.streams]
        for of_streams in STREAM_METRICS:
            yield of_streams.collect(readings)
        yield ZONE_DWELL.family(_dwells(reading for _, reading in readings))
        for of_daemon in DAEMON_METRICS:
            yield of_daemon.collect([((), self._status)])


class Observations:
    """What was observed of one series, in a fifth of the time that Prometheus's own class takes.

    `add` only notes a value. What was noted is counted when it is read, or when it is much.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._noted: deque[float] = deque()  # its methods are atomic
        self._lock = threading.Lock()  # for what follows
        self._bounds = np.array(bounds)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one more."""
        self._noted.append(value)
        if len(self._noted) >= _NOTED:
            self._count()

    def read(self) -> tuple[Sequence[int], float]:
        """Return the numbers by bucket, and the sum."""
        self._count()
        with self._lock:
            return self._counts.tolist(), self._sum

    def _count(self) -> None:
        with self._lock:
            values = [self._noted.popleft() for _ in range(len(self._noted))]
            at = np.searchsorted(self._bounds, values)
            self._counts += np.bincount(at, minlength=len(self._counts))
            self._sum += sum(values)


class PrometheusMeters(Meters, Collector):
    """Histograms in ``registry``; reports come from all threads."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register the histograms; without a registry, nobody reads them."""
        self._stages = {stage: Observations(SECONDS) for stage in STAGES}
        self._streams: dict[str, Observations] = {}
        self._batches, self._builds = Observations(SIZES), Observations(BUILD_SECONDS)
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every histogram."""
        for histogram, by_label in (
            (STAGE_DURATION, self._stages),
            (FRAME_LATENCY, self._streams),
        ):
            found = dict(by_label).items()  # copied in one step: other threads add to it
            yield histogram.family(((label,), *series.read()) for label, series in found)
        for histogram, series in ((BATCH_SIZE, self._batches), (PLAN_BUILD, self._builds)):
            yield histogram.family([((), *series.read())])

    def add_stream(self, name: str) -> None:
        """Create the stream's series, at 0; only streams added here are measured."""
        self._streams[name] = Observations(LATENCIES)

    def remove_stream(self, name: str) -> None:
        """Remove the stream's series; later reports are ignored."""
        del self._streams[name]

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Report how long a step took: one of `STAGES`, or one specific to an engine."""
        series = self._stages.get(stage)
        if series is None:
            series = self._stages.setdefault(stage, Observations(SECONDS))
        series.add(seconds)

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Report the time from decoding a frame to handing its detections to the sinks."""
        series = self._streams.get(stream)
        if series is not None:
            series.add(seconds)

    def plan_build(self, seconds: float) -> None:
        """Report how long building a plan took."""
        self._builds.add(seconds)

    def batch_size(self, size: int) -> None:
        """Report how many frames ran together."""
        self._batches.add(size)

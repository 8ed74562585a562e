"""The table of metrics, and the collector that reads them from the lanes at scrape time."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from centernetd.flow import StreamState
from centernetd.service.view import Pipeline, StreamView

PREFIX = "centernetd_"

Source = TypeVar("Source")

Rows = Sequence[tuple[tuple[str, ...], float]]
"""Label values, in the order of a metric's labels, each with its number."""

Values = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the order of a definition's labels (less ``stream``), each with its number."""


class StreamReading:
    """One stream at the moment of a scrape: one consistent book, one clock."""

    def __init__(self, view: StreamView, now: float) -> None:
        self.view = view
        self.now = now
        self.lane = view.lane
        self.status = view.lane.status
        self.book = view.lane.ledger.read()


class Family(Metric):
    """A metric as it was read; samples, each with a mapping of labels, are made if asked for.

    ``rows`` holds for each sample the values of ``labels``, in their order, and its number.
    """

    def __init__(
        self, name: str, said: str, kind: str, sample: str, labels: tuple[str, ...], rows: Rows
    ) -> None:
        super().__init__(name, said, kind)
        self.sample, self.labels, self.rows = sample, labels, rows
        del self.samples  # the base class's own, so that the property below answers

    @cached_property
    def samples(self) -> list[Sample]:  # type: ignore[override]
        """The samples, as prometheus_client has them."""
        return [
            Sample(self.sample, dict(zip(self.labels, values, strict=True)), float(number))
            for values, number in self.rows
        ]


@dataclass(frozen=True)
class Definition(Generic[Source]):
    """A metric, and how its samples are read from a stream or from the pipeline."""

    name: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Source], Values]

    def family(self, rows: Rows = ()) -> Metric:
        """Return the metric with its samples; a family's name lacks the suffix of its type."""
        sample, name, kind = PREFIX + self.name, PREFIX + self.name, "gauge"
        for suffix, kind_of_it in (("_total", "counter"), ("_info", "info")):
            if self.name.endswith(suffix):
                name, kind = name.removesuffix(suffix), kind_of_it
        return Family(name, self.help, kind, sample, self.labels, rows)

    def collect(self, sources: Iterable[tuple[tuple[str, ...], Source]]) -> Metric:
        """Return the metric with the samples of all ``sources``, each after its own labels."""
        return self.family(
            [
                (leading + values, number)
                for leading, source in sources
                for values, number in self.read(source)
            ]
        )


def _one(value: float) -> Values:
    return (((), value),)


def _counted(counter: Mapping[str, int]) -> Values:
    # Copied in one step: another thread may add a key while this one iterates.
    return (((key,), count) for key, count in dict(counter).items())


def _dropped(stream: StreamReading) -> Values:
    dropped = stream.book.dropped.items()
    return (((stage.value, reason.value), count) for (stage, reason), count in dropped)


def _queues(pipeline: Pipeline) -> Values:
    for view in pipeline.streams():
        yield (f"{view.name}/inbox",), view.lane.waiting
        for sink, outlet in view.lane.outlets.items():
            yield (f"{view.name}/{sink.value}",), len(outlet)


def _known(value: float | None) -> Values:
    return () if value is None else _one(value)


def _engine_info(pipeline: Pipeline) -> Values:
    engine = pipeline.engine()
    if engine is None:
        return ()
    return (((engine.backend, engine.precision, engine.device, engine.model), 1),)


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
               "Frames that are safe in the sink's file.",
               lambda s: (((sink.value,), n) for sink, n in s.book.written.items())),
    Definition("frames_in_flight", ("stream", "stage"),
               "Frames that have come to a stage and not left it.",
               lambda s: (((stage.value,), n) for stage, n in s.book.in_flight.items())),
    Definition("frames_damaged_total", ("stream",),
               "Broken pictures and packets passed over, which never count as captured.",
               lambda s: _one(s.status.damaged)),
    Definition("detections_total", ("stream", "label"),
               "Objects detected. The labels are those of detect.labels, else the model's first "
               "20; the rest count as other.",
               lambda s: _counted(s.status.detections)),
    Definition("reconnects_total", ("stream", "reason"),
               "Times the source had to be connected to again.",
               lambda s: _counted(s.status.reconnects)),
    Definition("bytes_written_total", ("stream",),
               "Bytes of video written.",
               lambda s: _one(s.status.bytes_written)),
    Definition("segments_total", ("stream",),
               "Video files completed.",
               lambda s: _one(s.status.segments)),
    Definition("frame_age_seconds", ("stream",),
               "Time since the last frame or, before the first, since the start. Absent once a "
               "file has come to its proper end.",
               lambda s: () if s.view.finished else _one(s.view.age(s.now))),
    Definition("stream_up", ("stream",),
               "1 while the stream runs and its last frame is no older than stall_timeout, else 0. "
               "Absent once a file has come to its proper end: it is neither up nor down.",
               lambda s: () if s.view.finished else _one(s.view.fresh(s.now))),
    Definition("stream_state", ("stream", "state"),
               "1 for the state the stream is in, 0 for the others.",
               lambda s: (((state.value,), state is s.view.state) for state in StreamState)),
    Definition("stream_frozen", ("stream",),
               "1 while a live source gives one and the same picture over and over.",
               lambda s: _one(s.status.frozen)),
    Definition("capture_threads_lost", ("stream",),
               "Threads that have not come back from the library they read with.",
               lambda s: _one(s.status.lost_threads)),
    Definition("source_lag_seconds", ("stream",),
               "How far a live source's timeline lags behind the clock.",
               lambda s: _one(s.status.source_lag)),
    Definition("stream_info", ("stream", "codec", "decoder", "encoder"),
               "Always 1: how the stream is coded.",
               lambda s: (((s.status.codec, s.status.decoder, s.status.encoder), 1),)),
)
DAEMON_METRICS: tuple[Definition[Pipeline], ...] = (
    Definition("queue_frames", ("queue",),
               "Frames that wait in a queue: STREAM/inbox before inference, STREAM/record and "
               "STREAM/events before the sinks.",
               _queues),
    Definition("slots_busy", (),
               "Slots of the inference ring that hold a batch.",
               lambda p: _one(p.slots_busy())),
    Definition("storage_bytes", (),
               "Size of the recordings and events that the limits under storage are about: those "
               "of cameras, with the files being written. Absent until they have been counted.",
               lambda p: _known(p.storage.size)),
    Definition("storage_free_bytes", (),
               "Free space where recordings go, as it was in the last second: a scrape asks no "
               "disk. Absent while the disk can't be asked, or is not mounted as "
               "storage.require_mount wants it.",
               lambda p: _known(p.storage.free)),
    Definition("oldest_segment_timestamp_seconds", (),
               "When the oldest of them was last written, as Unix time. Absent while there is "
               "none.",
               lambda p: _known(p.storage.oldest)),
    Definition("build_info", ("version",),
               "Always 1: the version that runs.",
               lambda p: (((p.version,), 1),)),
    Definition("engine_info", ("backend", "precision", "device", "model"),
               "Always 1: what the network runs on. Absent until the engine is loaded.",
               _engine_info),
    Definition("config_info", ("sha256",),
               "Always 1: the configuration in force.",
               lambda p: (((p.config.sha256,), 1),)),
    Definition("config_last_reload_successful", (),
               "1 unless the last reload was refused.",
               lambda p: _one(p.config.last_reload_succeeded)),
)
# fmt: on


class PipelineCollector(Collector):
    """Reads the lanes' books and statuses when scraped: nothing is counted twice.

    Holds no state, so a stream that is gone takes its series along, and any number of scrapes
    may run at once. It takes each ledger's lock for the time of a copy and nothing else of
    the pipeline.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def describe(self) -> Iterable[Metric]:
        """Return every metric without samples; the registry checks the names for clashes."""
        of_streams = [metric.family() for metric in STREAM_METRICS]
        return of_streams + [metric.family() for metric in DAEMON_METRICS]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present samples."""
        now = time.monotonic()
        views = self._pipeline.streams()
        readings = [((view.name,), StreamReading(view, now)) for view in views]
        for of_streams in STREAM_METRICS:
            yield of_streams.collect(readings)
        for of_daemon in DAEMON_METRICS:
            yield of_daemon.collect([((), self._pipeline)])

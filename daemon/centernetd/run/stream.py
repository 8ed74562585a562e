"""One stream: its lane, its stages and their threads, any of which may hang in a library."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from centernetd.capture.stage import CaptureStage
from centernetd.config import StreamConfig
from centernetd.errors import StartupError
from centernetd.flow import (
    Arrivals,
    Backpressure,
    Budget,
    Incident,
    Lane,
    Meters,
    Runner,
    StageName,
    StreamState,
    Worker,
)
from centernetd.inference.detector import Detector
from centernetd.inference.filter import StreamFilters, filters_of
from centernetd.run.loading import Sizes
from centernetd.run.tracking import BlurTracks, StreamTracks, Tracking
from centernetd.service.health import StreamView
from centernetd.sink.pool import PoolTask, WriterPool
from centernetd.sink.registry import RECORD, SINKS
from centernetd.sink.stage import IDLE, BatchSink, BatchStage, PacketSink, SinkContext, SinkStage
from centernetd.sink.storage import Storage
from centernetd.track import LOW
from centernetd.track.counts import TrackLedger

log = logging.getLogger(__name__)

MAX_LOST = 3
"""Maximum number of hung capture threads per stream; then it waits for one to return."""
HUNG_AFTER = 20.0
"""Seconds in a single write after which a sink counts as hung."""
LIVE_DEPTH = 8  # frames per live stream that may wait for a sink
LOSSLESS_BYTES = 2_000_000_000
"""Memory for the frames of all lossless streams: 320 of 1080p, or five batches of 64."""
LOSSLESS_GPU_BYTES = 512_000_000
"""GPU memory for the same per model that is used, where pictures stay there: 150 of 1080p."""
_LIVE_INBOX = 2  # frames per live stream that may wait for inference; waiting frames age

MakeWorker = Callable[[str, Callable[[], None]], Worker]
"""Returns the worker of this name that runs this callable."""


@dataclass(frozen=True)
class StreamContext:
    """What the stages of all streams share; ``models`` are loaded, ``node`` names this machine."""

    models: Mapping[str, Detector]
    storage: Storage
    meters: Meters
    writers: Mapping[StageName, WriterPool]
    tracking: Tracking
    node: str = ""


class Stream:
    """One stream: its configuration, its lane, its stages and their threads.

    ``filters`` select the detections that inference keeps. `check` replaces lost capture
    threads and reports hung sinks. All methods are called from one thread.
    """

    def __init__(
        self,
        config: StreamConfig,
        lane: Lane,
        filters: StreamFilters,
        capture: CaptureStage,
        sinks: Mapping[StageName, SinkStage | BatchStage],
        tracks: TrackLedger | None,
        context: StreamContext,
        stopping: threading.Event,
        make_worker: MakeWorker,
    ) -> None:
        """Take the stages; setting ``stopping`` ends ``capture``.

        ``tracks`` counts the stream's objects, if they are followed.
        """
        self.name = config.name
        self.lane = lane
        self.filters = filters
        self.view = StreamView(lane, config.stall_timeout, tracks)
        self.captures: list[Runner] = []
        """Capture threads, including lost ones."""
        self._config = config
        self._context = context
        self._capture = capture
        self._sinks = sinks
        self._stopping = stopping
        self._make_worker = make_worker
        self._writers: list[Runner] = [
            PoolTask(f"{name}:{self.name}", stage, context.writers[name])
            if isinstance(stage, BatchStage)
            else make_worker(f"{name}:{self.name}", stage.run)
            for name, stage in sinks.items()
        ]
        self._vacant = True  # no thread reads the source
        self._next: Worker | None = None  # prepared, to become the capture
        self._shortage = Incident()  # of threads

    @property
    def threads(self) -> list[Runner]:
        """All threads of the stream, and its shares of those that all streams have."""
        return [*self.captures, *self._writers]

    @property
    def alive(self) -> bool:
        """Whether any thread is still running."""
        return any(thread.alive for thread in self.threads)

    def adopt(self, lost: Iterable[Runner]) -> list[Runner]:
        """Take over the lost captures of an earlier stream of this name; return the others."""
        others: list[Runner] = []
        for thread in lost:
            (self.captures if thread.name == self._capture_name else others).append(thread)
        return others

    def may_adapt(self, config: StreamConfig) -> bool:
        """Return whether `adapt` suffices: only zones, lines and how objects are followed differ.

        Raises
        ------
        ConfigError
            If a zone or line names a label that none of the models has.
        """
        ours = replace(self._config, zones=config.zones, lines=config.lines, track=config.track)
        if ours != config or not (self._config.tracks and config.tracks):
            return False
        _filters(config, self._context.models)
        return True

    def adapt(self, config: StreamConfig) -> None:
        """Take other zones and lines while frames, recordings and tracks continue."""
        self._config = config
        self._context.tracking.adapt(self.lane, config)

    def prepare(self) -> None:
        """Allocate every thread that `start` needs.

        Raises
        ------
        StartupError
            If the system has no more threads; `stop` ends those already allocated.
        """
        self._next = self._new_capture()
        for thread in (*self._writers, self._next):
            thread.prepare()

    def start(self) -> None:
        """Start the sinks, then the capture."""
        for thread in self._writers:
            thread.start()
        self._check_capture()

    def stop(self) -> None:
        """Stop the capture and let the sinks finish the frames in flight; idempotent."""
        self._stopping.set()
        self.lane.close()
        for thread in self.threads if self._next is None else (*self.threads, self._next):
            thread.cancel()

    def check(self) -> None:
        """Check every thread; called about twice per second."""
        self._check_capture()
        self._check_sinks()

    @property
    def _capture_name(self) -> str:
        return f"capture:{self.name}"

    def _new_capture(self) -> Worker:
        return self._make_worker(self._capture_name, self._capture.run)

    def _check_capture(self) -> None:
        self._vacant |= self._capture.watch()
        self.captures = [thread for thread in self.captures if thread.alive]
        status, lost = self.lane.status, len(self.captures)
        if not self._vacant:
            status.lost_threads = max(0, lost - 1)
            return
        if lost < MAX_LOST:
            self._vacant = not self._begin_capture()
        elif status.lost_threads < lost:
            message = "%d capture threads hang: the stream stays stuck until one of them returns"
            log.error(message, lost, extra={"stream": self.name})
            status.state = StreamState.STUCK
        status.lost_threads = lost

    def _begin_capture(self) -> bool:
        """Start a capture thread; return False if none could be started, to retry later."""
        capture = self._next or self._new_capture()
        try:
            capture.start()
        except StartupError as error:
            if self._shortage.occurred():
                log.error("capture waits: %s", error, extra={"stream": self.name})  # noqa: TRY400
            return False
        self.captures.append(capture)
        self._next = None
        self._shortage.resolved()
        return True

    def _check_sinks(self) -> None:
        status = self.lane.status
        busy: dict[str, float] = {name: stage.busy_for for name, stage in self._sinks.items()}
        hung = tuple(sink for sink, seconds in busy.items() if seconds >= HUNG_AFTER)
        before, status.hung_sinks = status.hung_sinks, hung
        for sink in set(hung) - set(before):
            message = "stuck: %s has hung in a write for %.0f s"
            log.error(message, sink, busy[sink], extra={"stream": self.name})
        for sink in set(before) - set(hung):
            log.warning("%s has returned from a write", sink, extra={"stream": self.name})


def make_lane(
    stream: StreamConfig,
    sizes: Sizes,
    arrivals: Mapping[str, Arrivals],
    budget: Budget,
    writers: Mapping[StageName, WriterPool],
) -> Lane:
    """Return the lane of ``stream``, whose results ``writers`` may write, by the names of sinks.

    It announces its frames in the ``arrivals`` of its models.
    """
    live = stream.policy == "live"
    sinks = {name: sink for name, sink in SINKS.items() if sink.enabled(stream)}
    pools = [writers[name] for name, sink in sinks.items() if not sink.needs_pixels(stream)]

    def announce(urgent: bool) -> None:
        for pool in pools:
            pool.announce(urgent)

    return Lane(
        stream.name,
        Backpressure.DROP_OLDEST if live else Backpressure.BLOCK,
        depth=LIVE_DEPTH if live else sizes.lossless_depth,
        inbox=_LIVE_INBOX,
        arrivals=arrivals,
        sinks=list(sinks),
        without_pixels=[name for name, sink in sinks.items() if not sink.needs_pixels(stream)],
        max_frame_age=stream.max_frame_age if live else None,
        copies=stream.copies,
        budget=budget,
        announce=announce,
    )


def make_stream(
    config: StreamConfig, lane: Lane, context: StreamContext, make_worker: MakeWorker
) -> Stream:
    """Make the stages of a stream around its ``lane``, which is closed if this raises.

    Raises
    ------
    ConfigError
        If it names a label that none of its models has.
    """
    try:
        filters, stopping = _filters(config, context.models), threading.Event()
        tracks = StreamTracks(config, filters) if config.tracks else None
        blur = BlurTracks(filters.covers) if config.privacy.blur else None
        models = [context.models[name] for name in config.models]
        # Pictures may stay on the GPU.
        surfaces = all(each.engine.takes_surfaces for each in models)
        lane.status.detections.update(dict.fromkeys(filters.counted, 0))
        capture = CaptureStage(config, lane, context.meters, stopping, surfaces=surfaces)
        sink_context = SinkContext(
            config,
            context.storage,
            filters.classes,
            shows=filters.shows_of_kept,
            covers=filters.covers,
            status=lane.status,
            meters=context.meters,
            hurried=lambda: lane.hurried,
            node=context.node,
        )
        sinks = {name: _stage(lane, name, sink_context) for name in lane.outlets}
        context.tracking.serve(lane, tracks, blur)
        ledger = tracks.ledger if tracks else None
        return Stream(config, lane, filters, capture, sinks, ledger, context, stopping, make_worker)
    except Exception:
        lane.close()  # returns its share of the budget
        raise


def _filters(config: StreamConfig, models: Mapping[str, Detector]) -> StreamFilters:
    manifests = {name: models[name].manifest for name in config.models}
    return filters_of(config, manifests, LOW)


def _stage(lane: Lane, name: StageName, context: SinkContext) -> SinkStage | BatchStage:
    sink = SINKS[name].make(context)
    # A recording of a file stays one file, however long the source pauses, as a pipe may.
    patience = None if name == RECORD and context.stream.from_file else IDLE
    if isinstance(sink, BatchSink | PacketSink):
        return BatchStage(lane, name, sink, patience=patience)
    return SinkStage(lane, name, sink, patience=patience)

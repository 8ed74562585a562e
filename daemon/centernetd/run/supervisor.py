"""One run of the daemon, from startup until the last file is closed."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from centernetd.config import Config, StreamConfig
from centernetd.errors import CenternetdError, EngineError, StoppedError
from centernetd.flow import Budget, Lane, Meters, Reason, WakeUp, Worker
from centernetd.inference.collect import Batching
from centernetd.inference.delivery import Delivery
from centernetd.inference.detector import SHARES
from centernetd.inference.engines import choose_backend
from centernetd.model.progress import LoggedProgress
from centernetd.run.loading import sizes_for
from centernetd.run.models import Model, ModelContext, Models
from centernetd.run.reload import ModelLoader, Reloader
from centernetd.run.stop import ORDERLY, WITHOUT_ENGINE, stop_in_order
from centernetd.run.stream import (
    LOSSLESS_BYTES,
    LOSSLESS_GPU_BYTES,
    Stream,
    StreamContext,
    make_lane,
    make_stream,
)
from centernetd.run.streams import Streams
from centernetd.run.tracking import Tracking
from centernetd.service.service import Service
from centernetd.sink.housekeeping import Housekeeping
from centernetd.sink.pool import WriterPool
from centernetd.sink.registry import SINKS
from centernetd.sink.storage import Storage
from centernetd.track.counts import TrackLedger

log = logging.getLogger(__name__)

_TICK = 0.5


@dataclass(frozen=True)
class _Parts:
    """What a run consists of."""

    service: Service
    housekeeping: Housekeeping
    models: Models
    streams: Streams
    tracking: Tracking
    reloader: Reloader

    @property
    def alive(self) -> bool:
        """Whether any thread is still running."""
        return any(worker.alive for worker in (*self.models.workers, *self.streams.threads))


class Supervisor:
    """Builds the stages, owns every thread, and stops them in order.

    The main thread calls `run` and then only waits, so that signals are handled promptly.
    ``started_at`` is the monotonic time at which all stages were running; ``left_behind`` names
    the threads that could not be stopped.
    """

    def __init__(
        self,
        config: Config,
        meters: Meters | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """Take what `run` needs.

        ``meters`` receive the stages' measurements in place of the Prometheus ones. ``reread``
        returns the current configuration after `reload`; it may raise ConfigError.
        """
        self._config = config
        self._meters = meters
        self._reread = reread
        # Set in signal handlers, which must not wait for any lock, not even an Event's.
        self._stop_requested = self._reload_requested = False
        self._wake_up = WakeUp()
        self._lanes: Callable[[], list[Lane]] = list
        self._tracks: Callable[[], Mapping[Lane, TrackLedger]] = dict
        self._models: Callable[[], Mapping[str, Model]] = dict
        self._failed: Worker | None = None
        self.started_at = 0.0
        self.left_behind: list[str] = []

    def run(self, on_tick: Callable[[], None]) -> int:
        """Run until all streams have ended or `stop` is called; return the exit code.

        Only files end by themselves. ``on_tick`` is called in this thread about twice per second.
        On any exception, including from ``on_tick``, everything is stopped in order first.

        Raises
        ------
        CenternetdError
            If the daemon can't start, or a stage fails that everything depends on.
        """
        with ExitStack() as stack:
            try:
                parts = self._build(stack)
            except StoppedError:
                return 0
            stack.callback(self._end, parts)
            self._warm_up(parts)
            if not self._must_stop():
                stack.enter_context(_short_collections())
                self._start(parts)
            while parts.alive and not self._must_stop():
                parts.streams.check()
                parts.tracking.expire()
                if parts.models.check() and parts.models.current:
                    parts.streams.publish()
                parts.reloader.check()
                parts.housekeeping.check_for_hang()
                parts.service.tick()
                on_tick()
                self._wake_up.wait(_TICK)
        return self._outcome()

    def stop(self) -> None:
        """Request an orderly stop; from any thread or signal handler, any number of times."""
        self._stop_requested = True
        self._wake_up.set()

    def reload(self) -> None:
        """Request a reload of the configuration; may be called like `stop`."""
        self._reload_requested = True
        self._wake_up.set()

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of the running and ending streams."""
        return self._lanes()

    @property
    def tracks(self) -> Mapping[Lane, TrackLedger]:
        """What counts the objects of each stream in which they are followed."""
        return self._tracks()

    @property
    def complete(self) -> bool:
        """Whether every model has prepared all sizes of batches, or failed to."""
        return all(model.complete.is_set() for model in self._models().values())

    @property
    def engine_failed(self) -> bool:
        """Whether the engine failed while running; any call to the GPU may then hang."""
        return self._failed is not None and isinstance(self._failed.error, EngineError)

    def _build(self, stack: ExitStack) -> _Parts:
        """Build everything that runs; ``stack`` closes what must be closed."""
        config, configs = self._config, self._config.streams
        backend = choose_backend(config.engine.backend)
        sizes = sizes_for(backend, config.batching.max_size)
        # One for each kind, so that recordings on a disk that hangs hold up no events.
        writers = {name: WriterPool(name, self._worker) for name in SINKS}
        for each in writers.values():
            stack.callback(each.close)
        models = Models()
        self._models = lambda: models.current
        stack.callback(lambda: models.close(self.left_behind))
        models.accept(used := models.lacking(config))
        budget = Budget(LOSSLESS_BYTES, lambda: LOSSLESS_GPU_BYTES * max(1, len(models.current)))

        def lane_of(stream: StreamConfig) -> Lane:
            return make_lane(stream, sizes, models.arrivals(stream), budget, writers)

        lanes = [lane_of(stream) for stream in configs.values()]
        self._lanes = lambda: lanes
        storage = Storage(config.storage_root)
        service = stack.enter_context(Service(config, lanes, storage.status, models.inferences))
        service.starting("loading the model")
        housekeeping = Housekeeping(storage, config.storage, configs.values(), self._must_stop)
        if self._reread is not None or any(lane.outlets for lane in lanes):
            stack.enter_context(housekeeping)
        meters = self._meters or service.meters
        tracking = Tracking(meters)
        pool = ThreadPoolExecutor(SHARES, "letterbox")
        stack.callback(pool.shutdown, wait=False)
        given = ModelContext(
            backend,
            sizes,
            Batching(sizes.max_batch, config.batching.max_delay),
            pool,
            Delivery(meters, tracking.results),
            meters,
            service.heartbeats.beat,
            self._worker,
            self._wake_up.set,
        )

        def load_model(model: Model) -> None:
            model.load(given, LoggedProgress(service.starting, self._must_stop))

        for model in used:
            load_model(model)

        def make(stream: StreamConfig, lane: Lane | None = None) -> Stream:
            detectors = {name: model.detector for name, model in models.current.items()}
            context = StreamContext(detectors, storage, meters, writers, tracking, config.node)
            return make_stream(stream, lane or lane_of(stream), context, self._worker)

        made = [make(configs[lane.name], lane) for lane in lanes]
        models.serve({stream.lane: stream.filters for stream in made})
        streams = Streams(made, make, models, service)
        self._lanes, self._tracks = lambda: streams.lanes, lambda: streams.tracks
        loader = ModelLoader(models, load_model, self._worker)
        take_request, reread = self._take_reload_request, self._reread
        reloader = Reloader(config, reread, take_request, streams, loader, housekeeping, service)
        return _Parts(service, housekeeping, models, streams, tracking, reloader)

    def _warm_up(self, parts: _Parts) -> None:
        """Allocate every thread, and warm inference up unless the run must stop."""
        models = parts.models.current.values()
        for model in models:
            model.prepare()
        parts.streams.prepare()
        for model in models:
            model.start()
        while not all(model.warm.is_set() for model in models) and not self._must_stop():
            self._wake_up.wait()

    def _start(self, parts: _Parts) -> None:
        parts.streams.start()
        self.started_at = time.monotonic()
        parts.service.running(list(parts.models.current.values()))
        parts.streams.publish()

    def _end(self, parts: _Parts) -> None:
        parts.service.stopping()
        parts.reloader.stop()
        deadlines = WITHOUT_ENGINE if self.engine_failed else ORDERLY
        models = parts.models
        self.left_behind = stop_in_order(models.workers, models.preparing, parts.streams, deadlines)

    def _must_stop(self) -> bool:
        return self._stop_requested or self._failed is not None

    def _take_reload_request(self) -> bool:
        """Return True once per pending reload request, and clear it."""
        if not self._reload_requested:
            return False
        self._reload_requested = False
        return True

    def _worker(self, name: str, run: Callable[[], None]) -> Worker:
        return Worker(name, run, self._exited)

    def _exited(self, worker: Worker) -> None:
        if worker.error is not None:
            self._failed = self._failed or worker
        self._wake_up.set()

    def _outcome(self) -> int:
        if self._failed is not None:
            error = self._failed.error
            if isinstance(error, CenternetdError):
                raise error
            raise CenternetdError(
                f"{self._failed.name} failed, which is a fault in centernetd: {error!r}"
            ) from error
        if self._stop_requested:
            return 0
        return int(any(_went_wrong(lane) for lane in self.lanes))


def _went_wrong(lane: Lane) -> bool:
    dropped = lane.ledger.read().dropped
    return lane.status.failed or any(
        count for (_, reason), count in dropped.items() if reason is Reason.FAILED
    )


@contextmanager
def _short_collections() -> Iterator[None]:
    """Keep the garbage collector away from what exists now, mostly modules.

    Else, about once per minute, it stops every thread for as long as going through all that takes.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

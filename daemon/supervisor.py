"""One run of the daemon, from the start to the last file closed."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from daemon.config import Config, StreamConfig
from daemon.errors import CenternetdError, EngineError
from daemon.fleet import Fleet
from daemon.flow import Bell, Lane, Meters, Reason, Worker
from daemon.inference.detector import SHARES, Detector
from daemon.inference.engines import Engine, choose_backend
from daemon.inference.stage import Batching, InferenceStage
from daemon.loading import ModelChoice, load_detector, sizes_for
from daemon.model.plan import BuildStoppedError, Onlooker
from daemon.pipeline import StreamStages, Surroundings, make_lane, make_stages
from daemon.reloader import Reloader
from daemon.service.service import Service
from daemon.service.view import EngineInfo
from daemon.shutdown import ORDERLY, WITHOUT_ENGINE, shut_down
from daemon.signals import on_signals
from daemon.sink.housekeeping import Housekeeping
from daemon.sink.storage import Storage

log = logging.getLogger(__name__)

_TICK = 0.5
_INFERENCE = ("feed", "harvest")  # the two threads around the engine


@dataclass(frozen=True)
class Crew:
    """What runs: the inference with its threads, the streams with theirs."""

    stage: InferenceStage
    inference: list[Worker]
    fleet: Fleet
    reloader: Reloader
    engine: EngineInfo

    @property
    def alive(self) -> bool:
        """Whether a thread still runs."""
        return any(worker.alive for worker in (*self.inference, *self.fleet.threads))


class Supervisor:
    """Builds the stages, owns every thread, and stops them in order.

    The main thread calls `run` and from then on only waits, so that signals are heard.
    ``started_at`` is the monotonic time from which every stage ran; ``left_behind`` names the
    threads that a stop could not end.
    """

    def __init__(
        self,
        config: Config,
        meters: Meters | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """Make the lanes and take the HTTP address.

        ``meters`` hear what the stages report, instead of those that are scraped. ``reread``
        gives the configuration anew at a SIGHUP; it may raise ConfigError.

        Raises
        ------
        EngineError
            When this box has a GPU that can't be used.
        StartupError
            When ``metrics.listen`` can't be bound.
        """
        self._config = config
        self._reread = reread
        self._choice = choose_backend(config.engine.backend)
        self._sizes = sizes_for(self._choice.backend, config.batching.max_size)
        self._ready = threading.Condition()
        self.lanes = [self._make_lane(stream) for stream in config.streams.values()]
        self._storage = Storage(config.storage_root)
        self._service = Service(config, self.lanes, self._storage.status)
        self._meters = meters or self._service.meters
        # Set in signal handlers, which may wait for no lock: not even for that of an Event.
        self._asked_to_stop = self._asked_to_reload = False
        self._warm = threading.Event()
        self._bell = Bell()
        self._failed: Worker | None = None
        self.started_at = 0.0
        self.left_behind: list[str] = []

    def run(self, on_tick: Callable[[], None]) -> int:
        """Run until every source is a file and done, or a signal comes; returns the exit code.

        ``on_tick`` is called in this thread about twice a second.

        Raises
        ------
        CenternetdError
            When the daemon can't start, or a stage fails that nothing can run without.
        """
        with on_signals(self.stop, self.reload if self._reread else None), ExitStack() as house:
            house.enter_context(self._service)
            try:
                crew = self._build(house)
            except BuildStoppedError:
                return 0
            self._start(crew)
            self._watch(crew, on_tick)
            self._service.stopping()
            patience = WITHOUT_ENGINE if self.engine_failed else ORDERLY
            self.left_behind = shut_down(crew.inference, crew.fleet, patience)
        return self._outcome()

    def stop(self) -> None:
        """Ask for the ordered stop; from any thread or signal handler, any number of times."""
        self._asked_to_stop = True
        self._bell.ring()

    def reload(self) -> None:
        """Ask for the configuration to be read again; as `stop` in all else."""
        self._asked_to_reload = True
        self._bell.ring()

    def _build(self, house: ExitStack) -> Crew:
        self._service.starting("loading the model")
        streams = self._config.streams
        keeper = Housekeeping(self._storage, self._config.storage, streams.values())
        house.enter_context(keeper)
        pool = ThreadPoolExecutor(SHARES, "letterbox")
        house.callback(pool.shutdown, wait=False)
        detector = load_detector(
            ModelChoice.of(self._config),
            self._choice,
            self._sizes,
            pool,
            Onlooker(lambda: self._asked_to_stop, self._service.starting),
            self._service.meters,
        )
        house.callback(self._close, detector.engine)
        around = Surroundings(detector.manifest.labels, self._storage, self._meters)
        stages = [make_stages(streams[lane.name], lane, around) for lane in self.lanes]
        inference = self._make_inference(detector, stages)
        fleet = Fleet(self.lanes, stages, inference, self._worker, self._service)

        def make_anew(stream: StreamConfig) -> StreamStages:
            return make_stages(stream, self._make_lane(stream), around)

        reloader = Reloader(
            self._config,
            self._reread or (lambda: self._config),
            self._take_reload,
            fleet,
            make_anew,
            keeper,
            self._service,
            self._storage,
        )
        ran, why = detector.engine.info, self._choice.reason
        engine = EngineInfo(ran.backend, ran.precision, ran.device, detector.manifest.layout, why)
        return Crew(inference, self._inference_workers(inference), fleet, reloader, engine)

    def _make_lane(self, stream: StreamConfig) -> Lane:
        return make_lane(stream, self._sizes, self._ready)

    def _make_inference(self, detector: Detector, stages: Iterable[StreamStages]) -> InferenceStage:
        return InferenceStage(
            detector,
            {made.lane: made.wanted for made in stages},
            self._ready,
            Batching(self._sizes.max_batch, self._config.batching.max_delay),
            self._meters,
            self._service.progress.beat,
            self._sizes.slots,
        )

    def _inference_workers(self, inference: InferenceStage) -> list[Worker]:
        runs = (lambda: self._feed(inference), inference.harvest)
        return [self._worker(name, run) for name, run in zip(_INFERENCE, runs, strict=True)]

    def _close(self, engine: Engine) -> None:
        """Close ``engine``, unless a thread is lost in it: freeing what it uses would crash."""
        if not set(_INFERENCE) & set(self.left_behind):
            engine.close()

    def _start(self, crew: Crew) -> None:
        for worker in crew.inference:
            worker.start()
        self._await(self._warm)
        crew.fleet.start()
        self.started_at = time.monotonic()
        self._service.running(crew.engine, lambda: crew.stage.slots_busy)

    def _feed(self, inference: InferenceStage) -> None:
        inference.warm_up()
        self._warm.set()
        self._bell.ring()
        inference.feed()

    def _await(self, event: threading.Event) -> None:
        """Wait for ``event``, or for a reason to stop."""
        while not event.is_set() and not self._must_stop:
            self._bell.wait()

    @property
    def _must_stop(self) -> bool:
        return self._asked_to_stop or self._failed is not None

    def _take_reload(self) -> bool:
        """Whether a reload has been asked for since this was last so."""
        if not self._asked_to_reload:
            return False
        self._asked_to_reload = False
        return True

    def _worker(self, name: str, run: Callable[[], None]) -> Worker:
        return Worker(name, run, self._exited)

    def _exited(self, worker: Worker) -> None:
        if worker.error is not None:
            self._failed = self._failed or worker
        self._bell.ring()

    def _watch(self, crew: Crew, on_tick: Callable[[], None]) -> None:
        """Wait until there is nothing more to do, or a reason to stop."""
        while crew.alive:
            if self._must_stop:
                return
            crew.fleet.look()
            crew.reloader.look()
            self._service.tick()
            on_tick()
            self._bell.wait(_TICK)

    @property
    def engine_failed(self) -> bool:
        """Whether the engine failed while it ran: then the GPU may hang whoever touches it."""
        return self._failed is not None and isinstance(self._failed.error, EngineError)

    def _outcome(self) -> int:
        if self._failed is not None:
            error = self._failed.error
            if isinstance(error, CenternetdError):
                raise error
            raise CenternetdError(
                f"{self._failed.name} failed, which is a fault in centernetd: {error!r}"
            ) from error
        if self._asked_to_stop:
            return 0
        return int(any(_went_wrong(lane) for lane in self.lanes))


def _went_wrong(lane: Lane) -> bool:
    dropped = lane.ledger.read().dropped
    return lane.status.failed or any(
        count for (_, reason), count in dropped.items() if reason is Reason.FAILED
    )

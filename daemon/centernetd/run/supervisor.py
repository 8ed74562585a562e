"""One run of the daemon, from startup until the last file is closed."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from centernetd.config import Config, StreamConfig
from centernetd.errors import CenternetdError, EngineError, StoppedError
from centernetd.flow import Bell, Budget, Lane, Meters, Reason, Worker
from centernetd.inference.detector import SHARES, Detector
from centernetd.inference.engines import Choice, Engine, choose_backend
from centernetd.inference.stage import Batching, InferenceStage
from centernetd.model.progress import LoggedProgress
from centernetd.run.fleet import Fleet
from centernetd.run.loading import ModelChoice, Sizes, load_detector, sizes_for
from centernetd.run.pipeline import (
    LOSSLESS_BYTES,
    StreamStages,
    Surroundings,
    make_lane,
    make_stages,
)
from centernetd.run.reload import Reloader
from centernetd.run.stop import ORDERLY, WITHOUT_ENGINE, shut_down
from centernetd.service.service import Service
from centernetd.service.status import EngineStatus
from centernetd.sink.housekeeping import Housekeeping
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)

_TICK = 0.5
_INFERENCE = ("feed", "harvest")  # the two threads around the engine


@dataclass(frozen=True)
class Crew:
    """What is running: inference with its threads, and the streams with theirs."""

    stage: InferenceStage
    inference: Sequence[Worker]
    fleet: Fleet
    reloader: Reloader
    keeper: Housekeeping
    engine: EngineStatus

    @property
    def alive(self) -> bool:
        """Whether any thread is still running."""
        return any(worker.alive for worker in (*self.inference, *self.fleet.threads))


class Supervisor:
    """Builds the stages, owns every thread, and stops them in order.

    The main thread calls `run` and then only waits, so that signals are handled promptly.
    ``lanes`` holds the streams' lanes from the beginning of the run. ``started_at`` is the
    monotonic time at which all stages were running; ``left_behind`` names the threads that could
    not be stopped.
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
        self.lanes: list[Lane] = []
        # Set in signal handlers, which must not wait for any lock, not even an Event's.
        self._asked_to_stop = self._asked_to_reload = False
        self._warm = threading.Event()
        self._bell = Bell()
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
        with ExitStack() as house:
            try:
                service, crew = self._build(house)
            except StoppedError:
                return 0
            try:
                if self._warm_up(crew):
                    self._start(crew, service)
                    self._watch(crew, service, on_tick)
            finally:
                self._end(crew, service)
        return self._outcome()

    def stop(self) -> None:
        """Request an orderly stop; from any thread or signal handler, any number of times."""
        self._asked_to_stop = True
        self._bell.ring()

    def reload(self) -> None:
        """Request a reload of the configuration; may be called like `stop`."""
        self._asked_to_reload = True
        self._bell.ring()

    def _build(self, house: ExitStack) -> tuple[Service, Crew]:
        """Build everything that runs; ``house`` closes what must be closed."""
        config, streams, ready = self._config, self._config.streams, threading.Condition()
        choice = choose_backend(config.engine.backend)
        sizes = sizes_for(choice.backend, config.batching.max_size)
        budget = Budget(LOSSLESS_BYTES)
        self.lanes += [make_lane(stream, sizes, ready, budget) for stream in streams.values()]
        storage = Storage(config.storage_root)
        service = house.enter_context(Service(config, self.lanes, storage.status))
        meters = self._meters or service.meters
        service.starting("loading the model")
        keeping = Housekeeping(storage, config.storage, streams.values(), lambda: self._must_stop)
        keeper = house.enter_context(keeping)
        detector = self._load(house, service, choice, sizes)
        around = Surroundings(detector.manifest, storage, meters)
        stages = [make_stages(streams[lane.name], lane, around) for lane in self.lanes]
        wanted = {made.lane: made.wanted for made in stages}
        batching = Batching(sizes.max_batch, config.batching.max_delay)
        beat = service.progress.beat
        inference = InferenceStage(detector, wanted, ready, batching, meters, beat, sizes.slots)
        fleet = Fleet(self.lanes, stages, inference, self._worker, service)

        def make_anew(stream: StreamConfig) -> StreamStages:
            lane = make_lane(stream, sizes, ready, budget)
            try:
                return make_stages(stream, lane, around)
            except Exception:
                lane.close()  # returns its share of the budget
                raise

        reloader = Reloader(
            config, self._reread, self._take_reload, fleet, make_anew, keeper, service, storage
        )
        ran = detector.engine.info
        layout = detector.manifest.layout
        engine = EngineStatus(ran.backend, ran.precision, ran.device, layout, choice.reason)
        runs = (lambda: self._feed(inference), inference.harvest)
        workers = [self._worker(name, run) for name, run in zip(_INFERENCE, runs, strict=True)]
        return service, Crew(inference, workers, fleet, reloader, keeper, engine)

    def _load(self, house: ExitStack, service: Service, choice: Choice, sizes: Sizes) -> Detector:
        pool = ThreadPoolExecutor(SHARES, "letterbox")
        house.callback(pool.shutdown, wait=False)
        progress = LoggedProgress(service.starting, lambda: self._must_stop)
        model = ModelChoice.of(self._config)
        detector = load_detector(model, choice, sizes, pool, progress, service.meters)
        house.callback(self._close, detector.engine)
        return detector

    def _close(self, engine: Engine) -> None:
        """Close ``engine``, unless a thread hangs in it: freeing what it uses would crash."""
        if not set(_INFERENCE) & set(self.left_behind):
            engine.close()

    def _warm_up(self, crew: Crew) -> bool:
        """Allocate every thread and warm inference up; return whether to continue."""
        for worker in crew.inference:
            worker.prepare()
        crew.fleet.prepare()
        for worker in crew.inference:
            worker.start()
        while not self._warm.is_set() and not self._must_stop:
            self._bell.wait()
        return not self._must_stop

    def _start(self, crew: Crew, service: Service) -> None:
        crew.fleet.start()
        self.started_at = time.monotonic()
        service.running(crew.engine, lambda: crew.stage.slots_busy)

    def _feed(self, inference: InferenceStage) -> None:
        inference.warm_up()
        self._warm.set()
        self._bell.ring()
        inference.feed()

    @property
    def _must_stop(self) -> bool:
        return self._asked_to_stop or self._failed is not None

    def _take_reload(self) -> bool:
        """Return True once per pending reload request, and clear it."""
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

    def _watch(self, crew: Crew, service: Service, on_tick: Callable[[], None]) -> None:
        """Supervise until there is nothing left to do, or a reason to stop."""
        while crew.alive and not self._must_stop:
            crew.fleet.look()
            crew.reloader.look()
            crew.keeper.look()
            service.tick()
            on_tick()
            self._bell.wait(_TICK)

    def _end(self, crew: Crew, service: Service) -> None:
        service.stopping()
        patience = WITHOUT_ENGINE if self.engine_failed else ORDERLY
        self.left_behind = shut_down(crew.inference, crew.fleet, patience)

    @property
    def engine_failed(self) -> bool:
        """Whether the engine failed while running; any call to the GPU may then hang."""
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

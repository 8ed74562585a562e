"""The models of a run: each has its own engine, inference stage and threads."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from centernetd.config import Config, ModelConfig, StreamConfig
from centernetd.errors import CenternetdError, EngineError
from centernetd.flow import Arrivals, Lane, Meters, Worker
from centernetd.inference.collect import Batching
from centernetd.inference.delivery import Delivery
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Backend
from centernetd.inference.filter import StreamFilters
from centernetd.inference.stage import InferenceStage
from centernetd.model.progress import Progress
from centernetd.run.loading import ConfiguredModel, Sizes, load_detector
from centernetd.service.status import EngineStatus

log = logging.getLogger(__name__)

MakeWorker = Callable[[str, Callable[[], None]], Worker]
"""Returns the worker of this name that runs this callable."""


@dataclass(frozen=True)
class ModelContext:
    """What all models share.

    ``beat`` is called per batch with the model's name, otherwise as by `InferenceStage`;
    ``wake_up`` is called when a model is warm.
    """

    backend: Backend
    sizes: Sizes
    batching: Batching
    pool: Executor
    delivery: Delivery
    meters: Meters
    beat: Callable[[str, float], None]
    make_worker: MakeWorker
    wake_up: Callable[[], None]


class Model:
    """A model with its engine, stage and threads, which exist once it is loaded.

    It is ``warm`` when the engine runs the sizes of batches that it begins with, or when that has
    failed: ``failure`` is why. Its thread ``preparing`` adds smaller ones, until it is
    ``complete``. Once ``begun``, it serves lanes, and ends when all of them are closed and drained.
    """

    detector: Detector
    stage: InferenceStage
    preparing: Worker

    def __init__(self, name: str, config: Config) -> None:
        """Describe the model of this ``name`` in ``config``; raises ModelError as its `load`."""
        self.name = name
        self.config: ModelConfig = config.models[name]
        self.arrivals = Arrivals()
        self.workers: Sequence[Worker] = ()
        self.warm = threading.Event()
        self.complete = threading.Event()
        self.begun = threading.Event()
        self.failure: EngineError | None = None
        self._configured = ConfiguredModel.of(config, name)

    def load(self, context: ModelContext, progress: Progress) -> None:
        """Load it into an engine; in any thread.

        Raises
        ------
        ModelError
            If the model is missing or invalid.
        EngineError
            If it can't run on this machine.
        StoppedError
            If ``progress`` stopped the preparation.
        """
        backend, sizes = context.backend, context.sizes
        try:
            self.detector = load_detector(
                self._configured, backend, sizes, context.pool, progress, context.meters
            )
            self.stage = InferenceStage(
                self.detector,
                {},
                self.arrivals,
                context.batching,
                context.delivery,
                context.meters,
                lambda took: context.beat(self.name, took),
                sizes.slots,
            )
        except EngineError as error:
            raise EngineError(f"model {self.name}: {error}") from error
        ran, layout = self.detector.engine.info, self.detector.manifest.layout
        self.engine = EngineStatus(ran.backend, ran.precision, ran.device, layout, backend.reason)
        self.workers = (
            context.make_worker(f"feed:{self.name}", lambda: self._feed(context.wake_up)),
            context.make_worker(f"harvest:{self.name}", self.stage.harvest),
        )
        self.preparing = context.make_worker(f"smaller:{self.name}", self._prepare_smaller)

    def prepare(self) -> None:
        """Allocate its threads.

        Raises
        ------
        StartupError
            If the system has no more threads.
        """
        for worker in self.threads:
            worker.prepare()

    def start(self) -> None:
        """Start its threads, which warm it up; ``preparing`` begins when it is warm."""
        for worker in self.workers:
            worker.start()

    @property
    def ended(self) -> bool:
        """Whether it was begun, and none of its threads runs any more."""
        return self.begun.is_set() and not any(worker.alive for worker in self.threads)

    @property
    def threads(self) -> Sequence[Worker]:
        """Its ``workers`` and ``preparing``; none until it is loaded."""
        return (*self.workers, self.preparing) if self.workers else ()

    @property
    def inferred(self) -> int:
        """Frames that it ran on; 0 until it is loaded."""
        return self.stage.inferred if self.workers else 0

    @property
    def slots_busy(self) -> int:
        """Its slots that hold a batch."""
        return self.stage.slots_busy

    def close(self, left_behind: Collection[str] = ()) -> None:
        """Close the engine, unless a thread hangs in it: freeing what it uses would crash."""
        if hasattr(self, "detector") and not {w.name for w in self.threads} & set(left_behind):
            self.detector.engine.close()

    def _feed(self, wake_up: Callable[[], None]) -> None:
        try:
            self.stage.warm_up()
        except EngineError as error:
            self.failure = EngineError(f"model {self.name}: {error}")
            if self.begun.is_set():
                raise self.failure from error
        self.warm.set()
        wake_up()
        if self.failure is None:
            self.preparing.start()
        self.begun.wait()
        self.stage.feed()

    def _prepare_smaller(self) -> None:
        try:
            self.stage.prepare_smaller()
        except CenternetdError as error:
            log.warning(
                "model %s: not all sizes of batches can be prepared; smaller ones are padded, "
                "which takes longer: %s", self.name, error,
            )  # fmt: skip
        finally:
            self.complete.set()


class Models:
    """The models of the run, which come and go with the streams that name them.

    All methods are called by one thread, but for `current` and `inferences`.
    """

    def __init__(self) -> None:
        self._all: list[Model] = []
        # Frames that ended models ran on, and the others; replaced whole.
        self._counted: tuple[Mapping[str, int], Sequence[Model]] = {}, ()
        self._former: Mapping[str, Model] = {}
        self._current: Mapping[str, Model] = {}

    @property
    def current(self) -> Mapping[str, Model]:
        """The models that new streams run, by name."""
        return self._current

    def inferences(self) -> Mapping[str, int]:
        """Return how many frames ran on each model there ever was, by name."""
        ended, models = self._counted
        counts = dict(ended)
        for model in models:
            counts[model.name] = counts.get(model.name, 0) + model.inferred
        return counts

    @property
    def workers(self) -> list[Worker]:
        """The threads of all models that feed and harvest."""
        return [worker for model in self._all for worker in model.workers]

    @property
    def preparing(self) -> list[Worker]:
        """The threads of all loaded models that prepare smaller batches."""
        return [model.preparing for model in self._all if model.workers]

    def lacking(self, config: Config) -> list[Model]:
        """Return models, not loaded yet, for those that ``config`` uses and that are not current.

        Raises
        ------
        ModelError
            If a labels file can't be read.
        """
        current = self._current
        lacking = [
            Model(name, config)
            for name, wanted in config.used_models.items()
            if name not in current or current[name].config != wanted or current[name].stage.ended
        ]
        self._all += lacking
        return lacking

    def accept(self, models: Iterable[Model]) -> None:
        """Make these current, in place of others of their names."""
        models = tuple(models)
        ended, others = self._counted
        self._counted = ended, (*others, *models)
        self._former = self._current
        self._current = {**self._current, **{model.name: model for model in models}}

    def reject(self, models: Sequence[Model]) -> None:
        """Let these, which serve no lanes, end; those of before are current again."""
        if any(self._current.get(model.name) is model for model in models):
            self._current = self._former
        for model in models:
            model.begun.set()
            for worker in model.threads:
                worker.cancel()

    def arrivals(self, stream: StreamConfig) -> Mapping[str, Arrivals]:
        """Return where a new lane of ``stream`` announces its frames, by model."""
        return {name: self._current[name].arrivals for name in stream.models}

    def serve(self, filters: Mapping[Lane, StreamFilters]) -> None:
        """Serve these lanes too.

        Raises
        ------
        StartupError
            If a model has ended since it was found to be current.
        """
        for name, model in self._current.items():
            model.stage.serve(
                {lane.inboxes[name]: each for lane, each in filters.items() if name in lane.inboxes}
            )
            model.begun.set()

    def forget(self, lane: Lane) -> None:
        """Stop serving ``lane``, which is closed."""
        for inbox in lane.inboxes.values():
            for model in self._all:
                if inbox.arrivals is model.arrivals:
                    model.stage.forget(inbox)

    def check(self) -> bool:
        """Release the models that have ended; return whether there were any."""
        ended = [model for model in self._all if model.ended]
        for model in ended:
            self._all.remove(model)
            self._count_for_good(model)
            self._current = {n: each for n, each in self._current.items() if each is not model}
            model.close()
        return bool(ended)

    def _count_for_good(self, model: Model) -> None:
        ended, models = self._counted
        if model in models:
            count = ended.get(model.name, 0) + model.inferred
            others = [each for each in models if each is not model]
            self._counted = {**ended, model.name: count}, others

    def close(self, left_behind: Collection[str]) -> None:
        """Close the engines, except those in which one of the threads ``left_behind`` hangs."""
        for model in self._all:
            model.close(left_behind)

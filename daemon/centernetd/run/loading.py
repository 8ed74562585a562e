"""From the configured model to an engine that runs it."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from centernetd.config import Config
from centernetd.flow import Meters
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Backend, Engine, open_onnx, open_plan
from centernetd.model import labels
from centernetd.model.manifest import FLOAT16, FLOAT32, Manifest, PreparedModel
from centernetd.model.progress import LoggedProgress, Progress
from centernetd.plan import (
    Binding,
    Gpu,
    Job,
    PlanFile,
    Profile,
    load_binding,
    load_plan,
    resolve_plan,
    why_build,
)
from centernetd.prepare import store

log = logging.getLogger(__name__)

_MOST_CPU_BATCHES = 8  # concurrent; each has its own working memory
_PLAN = ".plan"


@dataclass(frozen=True)
class Sizes:
    """How much may be in flight; ``concurrency`` is the number of batches in the engine."""

    max_batch: int
    concurrency: int

    @property
    def slots(self) -> int:
        """Slots in the ring: one is filled while the others run."""
        return self.concurrency + 1

    @property
    def lossless_depth(self) -> int:
        """Frames in flight per lossless stream: all slots full, one batch waiting, some drawn."""
        return self.max_batch * (self.slots + 1) + 4


def sizes_for(backend: str, max_size: int | str) -> Sizes:
    """Return the sizes that suit ``backend``, given ``batching.max_size``."""
    if backend == "onnxruntime-cpu":
        default, concurrency = 1, min(len(os.sched_getaffinity(0)), _MOST_CPU_BATCHES)
    else:
        default, concurrency = 8, 2
    return Sizes(default if max_size == "auto" else int(max_size), concurrency)


@dataclass(frozen=True)
class ModelChoice:
    """A model as named in a configuration or on the command line.

    ``path`` is a built-in name or a file, relative to ``base_dir``; prepared models are stored in
    ``cache_dir`` and plans in ``plans``. If ``precision`` is None, the backend's default is used.
    """

    path: str
    base_dir: Path
    cache_dir: Path
    plans: Path
    input_size: tuple[int, int] | None = None
    labels: Sequence[str] | None = None
    precision: str | None = None
    device: int = 0

    @classmethod
    def of(cls, config: Config) -> "ModelChoice":
        """Return the configured model.

        Raises
        ------
        ModelError
            If its labels file can't be read.
        """
        (model,) = config.models.values()
        (device,) = config.engine.devices
        named, precision = model.labels_file, config.engine.precision
        return cls(
            model.path,
            config.base_dir,
            config.cache_dir,
            config.cache_dir / config.engine.plan_cache,
            model.input_size if "input_size" in model.model_fields_set else None,
            None if named is None else labels.read(config.base_dir / named),
            None if precision == "auto" else precision,
            device,
        )

    def prepared(self, backend: Backend, progress: Progress | None = None) -> PreparedModel:
        """Return the prepared model, preparing it first if necessary.

        Raises
        ------
        ModelError
            If the model is missing or invalid.
        StoppedError
            If ``progress`` stopped the preparation.
        """
        return store.resolve(self._request(backend), progress)

    def described(self, backend: Backend) -> Manifest | None:
        """Return the manifest of the prepared model, or None if it has not been prepared yet.

        Raises
        ------
        ModelError
            If the model is missing or invalid.
        """
        if self.path.endswith(_PLAN):
            return None
        prepared = store.at_hand(self._request(backend))
        return None if prepared is None else prepared.manifest

    def require_backend(self, backend: Backend) -> None:
        """Raise EngineError if the chosen backend's library or its GPU is missing."""
        if backend.name == "tensorrt":
            load_binding()
        if backend.on_gpu:
            Gpu.find(self.device)

    def _request(self, backend: Backend) -> store.Request:
        return store.Request(
            self.path,
            self.base_dir,
            self.cache_dir,
            self.input_size,
            self.labels,
            self.precision,
            FLOAT16 if backend.on_gpu else FLOAT32,
        )

    def plan(self, backend: Backend, sizes: Sizes, progress: Progress | None = None) -> PlanFile:
        """Return the plan that was named, or the model's plan, building it if necessary.

        Raises
        ------
        ModelError
            If the plan or the model is missing or invalid.
        EngineError
            If TensorRT or the GPU is missing.
        StoppedError
            If ``progress`` stopped the preparation or a build.
        """
        binding, gpu = load_binding(), Gpu.find(self.device)
        if self.path.endswith(_PLAN):
            return load_plan(self.base_dir / self.path, binding, gpu)
        progress = progress or LoggedProgress()
        job = self._job(self.prepared(backend, progress), sizes, binding, gpu)
        doing = f"building {job.model.path.name}"
        return resolve_plan(
            job, self.plans, lambda phase, step, of: progress(f"{doing}: {phase}", step, of)
        )

    def why_build(self, backend: Backend, sizes: Sizes) -> str | None:
        """Return a phrase for why a plan must be built first, or None if it need not.

        Raises as `plan`.
        """
        if backend.name != "tensorrt" or self.path.endswith(_PLAN):
            return None
        binding, gpu = load_binding(), Gpu.find(self.device)
        return why_build(self._job(self.prepared(backend), sizes, binding, gpu), self.plans)

    def _job(self, prepared: PreparedModel, sizes: Sizes, binding: Binding, gpu: Gpu) -> Job:
        return Job(prepared, Profile(1, sizes.max_batch, sizes.max_batch), binding, gpu)


def load_engine(
    model: ModelChoice,
    backend: Backend,
    sizes: Sizes,
    progress: Progress | None = None,
    meters: Meters | None = None,
) -> tuple[Engine, Manifest]:
    """Load ``model`` into the chosen backend; return the engine and the model's manifest.

    ``meters`` record how long a plan took to build.

    Raises
    ------
    ModelError
        If the model is missing or invalid.
    EngineError
        If the backend can't run on this machine.
    StoppedError
        If ``progress`` stopped the preparation or the build of a plan.
    """
    engine: Engine
    if backend.name == "tensorrt":
        plan = model.plan(backend, sizes, progress)
        if meters is not None and plan.build_seconds is not None:
            meters.plan_build(plan.build_seconds)
        path, manifest = plan.path, plan.manifest
        engine = open_plan(plan, model.device, sizes.max_batch)
    else:
        prepared = model.prepared(backend, progress)
        path, manifest = prepared.path, prepared.manifest
        engine = open_onnx(
            backend, path, manifest.precision, model.device, sizes.max_batch, sizes.concurrency
        )
    ran = engine.info
    log.info(
        "%s runs on %s in %s (%s), because %s",
        path.name, ran.backend, ran.precision, ran.device, backend.reason,
    )  # fmt: skip
    return engine, manifest


def load_detector(
    model: ModelChoice,
    backend: Backend,
    sizes: Sizes,
    pool: Executor,
    progress: Progress | None = None,
    meters: Meters | None = None,
) -> Detector:
    """Load ``model`` as `load_engine` does; ``pool`` runs part of the letterboxing."""
    engine, manifest = load_engine(model, backend, sizes, progress, meters)
    return Detector(engine, manifest, pool)

"""From the configured model to an engine that runs it."""

import logging
import os
from concurrent.futures import Executor
from dataclasses import dataclass, replace
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

_MAX_CPU_BATCHES = 8  # concurrent; each has its own working memory
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


def sizes_for(backend: Backend, max_size: int | str) -> Sizes:
    """Return the sizes that suit ``backend``, given ``batching.max_size``."""
    if backend.on_gpu:
        default, concurrency = 8, 2
    else:
        default, concurrency = 1, min(len(os.sched_getaffinity(0)), _MAX_CPU_BATCHES)
    return Sizes(default if max_size == "auto" else int(max_size), concurrency)


@dataclass(frozen=True)
class ConfiguredModel:
    """A model as named in a configuration or on the command line.

    ``request`` may also name a plan. Plans are stored in ``plans`` and run on GPU ``device``. If
    no precision is requested, an export gets that of the backend.
    """

    request: store.Request
    plans: Path
    device: int = 0

    @classmethod
    def of(cls, config: Config, name: str) -> "ConfiguredModel":
        """Return the model of this ``name`` in ``config.models``.

        Raises
        ------
        ModelError
            If its labels file can't be read.
        """
        model = config.models[name]
        (device,) = config.engine.devices
        named, precision = model.labels_file, config.engine.precision
        request = store.Request(
            model.path,
            config.base_dir,
            config.cache_dir,
            model.input_size if "input_size" in model.model_fields_set else None,
            None if named is None else labels.read(config.base_dir / named),
            None if precision == "auto" else precision,
        )
        return cls(request, config.cache_dir / config.engine.plan_cache, device)

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

    def manifest_if_prepared(self, backend: Backend) -> Manifest | None:
        """Return the manifest of the prepared model, or None if it has not been prepared yet.

        Raises
        ------
        ModelError
            If the model is missing or invalid.
        """
        if self._is_plan:
            return None
        prepared = store.if_prepared(self._request(backend))
        return None if prepared is None else prepared.manifest

    def require_backend(self, backend: Backend) -> None:
        """Raise EngineError if the chosen backend's library or its GPU is missing."""
        if backend.name == "tensorrt":
            load_binding()
        if backend.on_gpu:
            Gpu.find(self.device)

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
        if self._is_plan:
            return load_plan(self.request.base_dir / self.request.path, binding, gpu)
        progress = progress or LoggedProgress()
        job = _job(self.prepared(backend, progress), sizes, binding, gpu)
        doing = f"building {job.model.path.name}"
        return resolve_plan(
            job, self.plans, lambda phase, step, of: progress(f"{doing}: {phase}", step, of)
        )

    def why_build(self, backend: Backend, sizes: Sizes) -> str | None:
        """Return a phrase for why a plan must be built first, or None if it need not.

        Raises as `plan`.
        """
        if backend.name != "tensorrt" or self._is_plan:
            return None
        binding, gpu = load_binding(), Gpu.find(self.device)
        return why_build(_job(self.prepared(backend), sizes, binding, gpu), self.plans)

    def _request(self, backend: Backend) -> store.Request:
        precision = FLOAT16 if backend.on_gpu else FLOAT32
        return replace(self.request, precision_of_exports=precision)

    @property
    def _is_plan(self) -> bool:
        return self.request.path.endswith(_PLAN)


def _job(prepared: PreparedModel, sizes: Sizes, binding: Binding, gpu: Gpu) -> Job:
    return Job(prepared, Profile(1, sizes.max_batch, sizes.max_batch), binding, gpu)


def load_engine(
    model: ConfiguredModel,
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
    model: ConfiguredModel,
    backend: Backend,
    sizes: Sizes,
    pool: Executor,
    progress: Progress | None = None,
    meters: Meters | None = None,
) -> Detector:
    """Load ``model`` as `load_engine` does; ``pool`` runs part of the letterboxing."""
    engine, manifest = load_engine(model, backend, sizes, progress, meters)
    return Detector(engine, manifest, pool)

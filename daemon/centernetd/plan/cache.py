"""The plan cache: finding a plan that fits, and building it if there is none."""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from centernetd.errors import ModelError, StartupError, StoppedError
from centernetd.model import durable, files
from centernetd.model.manifest import PreparedModel
from centernetd.model.progress import Progress
from centernetd.plan import trust
from centernetd.plan.binding import Binding
from centernetd.plan.build import build
from centernetd.plan.file import Fingerprint, Gpu, PlanFile, Profile, read_plan, write_plan

log = logging.getLogger(__name__)

_POLL_INTERVAL = 0.2  # seconds; a wait in the kernel could not be cancelled


@dataclass(frozen=True)
class Job:
    """A request for a plan of ``model``, for ``profile``, with ``binding``.

    ``gpu`` is required if the binding's plans fit only one kind of GPU. ``workspace`` limits the
    GPU memory, in bytes, that a layer may use; None leaves it to TensorRT.
    """

    model: PreparedModel
    profile: Profile
    binding: Binding
    gpu: Gpu | None = None
    workspace: int | None = None

    def __post_init__(self) -> None:
        if self.binding.plans_fit_one_gpu and self.gpu is None:
            raise ValueError(f"{self.binding} needs the GPU named")

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the requested plan."""
        return Fingerprint(
            self.model.sha256,
            self.model.manifest.precision,
            self.profile,
            self.binding.flavour,
            self.binding.version,
            self.gpu if self.binding.plans_fit_one_gpu else None,
        )


def resolve_plan(job: Job, folder: Path, progress: Progress) -> PlanFile:
    """Return the plan of ``job`` from ``folder``, building it there if none fits.

    Several processes may request the same plan concurrently: one builds it and the others wait.

    Raises
    ------
    ModelError
        The model is rejected, or others can write to the folder.
    StartupError
        The folder can't be read or written to.
    EngineError
        TensorRT can't build here.
    StoppedError
        ``progress`` requested it.
    """
    plan = plan_path(job, folder)
    found = _existing(plan, job)
    if isinstance(found, PlanFile):
        return found
    with _writing(folder):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        trust.refuse_shared_folder(folder)
        durable.sweep(folder)
        with _locked(plan.with_name(f"{plan.name}.lock"), progress):
            found = _existing(plan, job)
            if isinstance(found, PlanFile):
                return found
            log.info("building the plan %s, because %s", plan, found)
            durable.make_way(plan)
            built = _build(job, plan, folder, progress)
            log.info("built the plan in %.1f s", built.build_seconds)
            return built


def build_plan(job: Job, plan: Path, timings: Path, progress: Progress) -> PlanFile:
    """Build the plan of ``job`` into the file ``plan``, overwriting it.

    Raises as `resolve_plan`.
    """
    if plan.parent.exists():
        trust.refuse_shared_folder(plan.parent.resolve())
    return _build(job, plan, timings, progress)


def why_build(job: Job, folder: Path) -> str | None:
    """Return why `resolve_plan` would build, as a sentence fragment, or None if it wouldn't.

    Raises
    ------
    ModelError
        As for `resolve_plan`.
    """
    found = _existing(plan_path(job, folder), job)
    return None if isinstance(found, PlanFile) else found


def plan_path(job: Job, folder: Path) -> Path:
    """Return the path of the plan of ``job``.

    The name depends only on model file and batch sizes. Other differences, as after an upgrade
    or on another GPU, are found by reading the old plan, so that the reason can be logged.
    """
    where = hashlib.sha256(str(job.model.path.absolute()).encode()).hexdigest()[:8]
    sizes = job.profile
    batches = f"{sizes.minimum}-{sizes.optimum}-{sizes.maximum}"
    return folder / f"{job.model.path.stem}-{where}-{batches}.plan"


def _existing(plan: Path, job: Job) -> PlanFile | str:
    """Return the existing plan if it fits, otherwise the reason why not."""
    durable.require_access(plan.parent, "engine.plan_cache")
    if not os.path.lexists(plan):
        return "none has been built yet"
    trust.refuse_shared_folder(plan.parent)
    try:
        found = read_plan(plan)
    except ModelError as error:
        return f"the existing one can't be used: {error}"
    difference = found.fingerprint.difference(job.fingerprint)
    return difference or replace(found, manifest=job.model.manifest)


def _build(job: Job, plan: Path, timings: Path, progress: Progress) -> PlanFile:
    started = time.monotonic()
    version = f"{job.binding.flavour}-{job.binding.version}"
    manifest = job.model.manifest
    with files.naming(job.model.path):
        network, digest = files.load(job.model.path)
        if digest != job.model.sha256:
            raise ModelError("it was replaced during the start: start again")
        content = build(
            network.SerializeToString(),  # with its external weights
            manifest.input_size,
            job.profile,
            job.binding,
            progress,
            workspace=job.workspace,
            timings=timings / f"timing-{version}.cache",
        )
    write_plan(plan, content, manifest, job.fingerprint)
    took = time.monotonic() - started
    return PlanFile(plan, manifest, job.fingerprint, content, took)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Add advice to errors about a plan folder that can't be written."""
    advice = "plans are stored there: free some space, or set engine.plan_cache to another folder"
    try:
        yield
    except StartupError as error:
        raise StartupError(f"{error}; {advice}") from None
    except OSError as error:
        raise StartupError(f"{folder}: can't be written: {error.strerror}; {advice}") from None


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file ``path`` until exit or process death; wait while ``progress`` allows."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    lock = os.open(path, flags, 0o644)
    try:
        while not _lock(lock):
            if not progress("waiting for another process that builds it", 0, 1):
                raise StoppedError("the wait for another process that builds the plan was stopped")
            time.sleep(_POLL_INTERVAL)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""Building a plan by hand."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from daemon.config import cache_dir
from daemon.model import store
from daemon.model.plan import Gpu, Job, PlanFile, Profile, Progress, build_plan, load_binding
from daemon.model.precision import FLOAT16


def build(
    model: str,
    plan: Path,
    profile: Profile,
    precision: str | None,
    workspace: int | None,
    find_gpu: Callable[[], Gpu],
    progress: Progress,
) -> PlanFile:
    """Build the plan of ``model``: a built-in name, an export or a prepared model.

    Without a ``precision`` an export is built in float16, and a prepared model in its own.
    ``find_gpu`` is asked where plans fit one kind of GPU only.

    Raises
    ------
    ModelError
        The model is missing or refused.
    StartupError
        The plan can't be written.
    EngineError
        TensorRT can't build here.
    """
    binding = load_binding()
    prepared = store.resolve(
        model,
        base_dir=Path.cwd(),
        cache_dir=cache_dir(),
        input_size=None,
        labels=None,
        precision=precision,
        precision_of_exports=FLOAT16,
    )
    gpu = find_gpu() if binding.plans_fit_one_gpu else None
    job = Job(prepared, profile, binding, gpu, workspace)
    return build_plan(job, plan, cache_dir() / "plans", progress)


class BuildBar:
    """Draws a bar for each phase of a build that is under way, while it is entered.

    Nothing is drawn unless ``console`` is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "BuildBar":
        self._bar.start()
        return self

    def __call__(self, phase: str, step: int, of: int) -> bool:
        """Draw where ``phase`` is; a phase that is through goes."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(phase, total=of)
        self._bar.update(self._tasks[phase], completed=step)
        if step >= of:
            self._bar.remove_task(self._tasks.pop(phase))
        return True

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

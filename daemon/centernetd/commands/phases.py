"""A progress bar for work that proceeds in phases."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class PhasesBar:
    """Draws a bar for each running phase while the context is open.

    Nothing is drawn unless ``console`` is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "PhasesBar":
        self._bar.start()
        return self

    def __call__(self, phase: str, step: int, of: int) -> bool:
        """Update the bar of ``phase``, or remove it once finished."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(phase, total=of)
        self._bar.update(self._tasks[phase], completed=step)
        if step >= of:
            self._bar.remove_task(self._tasks.pop(phase))
        return True

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

"""Progress bars: of a run over files, and of work that proceeds in phases."""

import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from centernetd.flow import CAPTURE, INFERENCE, Lane
from centernetd.flow.ledger import Book
from centernetd.model.progress import Progress


class FileProgress:
    """Shows each stream's finished frames, frame rate and time left while the context is open.

    Nothing is drawn unless ``console`` is a terminal. `update` must be called by the thread that
    opened the context.
    """

    def __init__(self, lanes: Callable[[], Iterable[Lane]], console: Console) -> None:
        """Show what ``lanes`` returns, at each update."""
        self._lanes = lanes
        self._bar = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:6.1f} fps"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started_at = time.monotonic()

    def __enter__(self) -> "FileProgress":
        self._bar.start()
        self.update()
        return self

    def update(self) -> None:
        """Redraw from the lanes' books."""
        seconds = max(1e-3, time.monotonic() - self._started_at)
        for lane in self._lanes():
            done = _done(lane.ledger.read())
            self._bar.update(
                self._task(lane.name),
                completed=done,
                total=lane.status.total_frames,
                fps=done / seconds,
            )
        self._bar.refresh()

    def _task(self, stream: str) -> TaskID:
        if stream not in self._tasks:
            self._tasks[stream] = self._bar.add_task(stream, total=None, fps=0.0)
        return self._tasks[stream]

    def __exit__(self, *exc_info: object) -> None:
        self.update()
        self._bar.stop()


def _done(book: Book) -> int:
    """Return the number of frames that are finished, including dropped ones."""
    waiting = [book.in_flight[stage] for stage in (CAPTURE, INFERENCE)]
    pending = max((book.in_flight[sink] for sink in book.written), default=0)
    return book.captured - sum(waiting) - pending


class PhasesBar(Progress):
    """Draws a bar for each running phase while the context is open.

    Nothing is drawn unless ``console`` is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Bars(
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

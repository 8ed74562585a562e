"""Results of the suite: collected during a run, kept as JSON next to the page made from it."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from tests.faults.promises import PROMISES


@dataclass(frozen=True)
class Measured:
    """One fault injected for one promise; ``figures`` has one number per try.

    ``note`` is an additional remark on the last try. ``enough`` is whether every try was as
    extensive as the promise requires.
    """

    promise: str
    fault: str
    figures: tuple[float, ...]
    note: str
    date: str
    machine: str
    command: str
    enough: bool = True

    @property
    def worst(self) -> float:
        return max(self.figures)

    @property
    def kept(self) -> bool:
        return self.worst <= PROMISES[self.promise].bound


@dataclass(frozen=True)
class Skipped:
    """A fault that could not be injected here."""

    fault: str
    reason: str


@dataclass(frozen=True)
class Results:
    """Everything measured, and everything skipped."""

    measured: Sequence[Measured] = ()
    skipped: Sequence[Skipped] = ()

    def of(self, promise: str) -> list[Measured]:
        return [row for row in self.measured if row.promise == promise]

    def updated(self, later: "Results") -> "Results":
        """Return these results, replaced by those of ``later`` for the faults injected again."""
        again = {row.fault for row in later.measured} | {row.fault for row in later.skipped}
        return Results(
            [row for row in self.measured if row.fault not in again] + list(later.measured),
            [row for row in self.skipped if row.fault not in again] + list(later.skipped),
        )


class Notebook:
    """Collects the figures of one run."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], list[float]] = {}
        self._notes: dict[tuple[str, str], str] = {}
        self._small: set[tuple[str, str]] = set()
        self._skipped: dict[str, str] = {}
        date = datetime.now(timezone.utc).date().isoformat()
        self._run = date, _machine(), os.environ.get("FAULTS_COMMAND", "pytest tests/faults")

    def note(self, promise: str, fault: str, figure: float, note: str, enough: bool) -> None:
        self._figures.setdefault((promise, fault), []).append(figure)
        self._notes[promise, fault] = note
        if not enough:
            self._small.add((promise, fault))

    def skip(self, fault: str, reason: str) -> None:
        self._skipped[fault] = reason

    @property
    def results(self) -> Results:
        return Results(
            [
                Measured(*key, tuple(figures), self._notes[key], *self._run, key not in self._small)
                for key, figures in self._figures.items()
            ],
            [Skipped(fault, reason) for fault, reason in self._skipped.items()],
        )


def load(path: Path) -> Results:
    """Read results; if there is no such file, return none."""
    if not path.exists():
        return Results()
    content = json.loads(path.read_text("utf-8"))
    return Results(
        [Measured(**{**row, "figures": tuple(row["figures"])}) for row in content["measured"]],
        [Skipped(**row) for row in content["skipped"]],
    )


def save(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", "utf-8")


def _machine() -> str:
    cpu = next(_values("/proc/cpuinfo", "model name"), platform.machine())
    memory = int(next(_values("/proc/meminfo", "MemTotal")).split()[0]) / 2**20
    load, *_ = os.getloadavg()
    return (
        f"{len(os.sched_getaffinity(0))} cores ({cpu}), {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"load {load:.1f} before"
    )


def _values(path: str, key: str) -> Iterator[str]:
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return (value.strip() for name, _, value in lines if name.strip() == key)

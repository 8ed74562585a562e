"""What the suite measured: gathered while it runs, kept as JSON beside the page made of it."""

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
    """One fault as it was tried for one promise; ``figures`` are those of its tries.

    ``told`` is what the last try has to say besides. ``enough`` tells that every try was as
    large as the promise is.
    """

    promise: str
    done: str
    figures: tuple[float, ...]
    told: str
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
    """A fault that could not be tried here."""

    done: str
    reason: str


@dataclass(frozen=True)
class Results:
    """Everything measured and what could not be."""

    measured: Sequence[Measured] = ()
    skipped: Sequence[Skipped] = ()

    def of(self, promise: str) -> list[Measured]:
        return [row for row in self.measured if row.promise == promise]

    def updated(self, later: "Results") -> "Results":
        """Return these with what was tried again in place of what was known of it."""
        again = {row.done for row in later.measured} | {row.done for row in later.skipped}
        return Results(
            [row for row in self.measured if row.done not in again] + list(later.measured),
            [row for row in self.skipped if row.done not in again] + list(later.skipped),
        )


class Notebook:
    """Collects figures during a run, all of one machine and command."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str], list[float]] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._small: set[tuple[str, str]] = set()
        self._skipped: dict[str, str] = {}
        date = datetime.now(timezone.utc).date().isoformat()
        self._run = date, _machine(), os.environ.get("FAULTS_COMMAND", "pytest tests/faults")

    def note(self, promise: str, done: str, figure: float, told: str, *, enough: bool) -> None:
        self._figures.setdefault((promise, done), []).append(round(figure, 3))
        self._told[promise, done] = told
        if not enough:
            self._small.add((promise, done))

    def skip(self, done: str, reason: str) -> None:
        self._skipped[done] = reason

    @property
    def results(self) -> Results:
        return Results(
            [
                Measured(*key, tuple(all_), self._told[key], *self._run, key not in self._small)
                for key, all_ in self._figures.items()
            ],
            [Skipped(done, reason) for done, reason in self._skipped.items()],
        )


def load(path: Path) -> Results:
    """Read results; a file that isn't there holds none."""
    if not path.exists():
        return Results()
    told = json.loads(path.read_text("utf-8"))
    return Results(
        [Measured(**{**row, "figures": tuple(row["figures"])}) for row in told["measured"]],
        [Skipped(**row) for row in told["skipped"]],
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

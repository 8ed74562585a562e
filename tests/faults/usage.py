"""What a process uses: resident memory, threads, descriptors."""

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Usage:
    """One look at a process; ``memory`` is what is resident, in KiB."""

    memory: int
    threads: int
    descriptors: int


def usage(pid: int) -> Usage:
    process = Path(f"/proc/{pid}")
    lines = (process / "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    memory = int(status["VmRSS"].split()[0])
    return Usage(memory, int(status["Threads"]), len(list((process / "fd").iterdir())))


def observe(pid: int, seconds: float) -> list[Usage]:
    """Look at a process over and over for a while."""
    seen, step, end = [], threading.Event(), time.monotonic() + seconds
    while time.monotonic() < end:
        seen.append(usage(pid))
        step.wait(SAMPLE_EVERY)
    return seen


def growth(before: Sequence[Usage], after: Sequence[Usage]) -> tuple[float, int, int]:
    """Return by how many percent memory grew, and how many more threads and descriptors there are.

    Medians are compared: a look may fall on one of its tries.
    """
    memory, threads, descriptors = (
        [statistics.median(getattr(look, what) for look in looks) for looks in (before, after)]
        for what in ("memory", "threads", "descriptors")
    )
    return (
        100 * (memory[1] / memory[0] - 1),
        max(0, round(threads[1] - threads[0])),
        max(0, round(descriptors[1] - descriptors[0])),
    )


def most_memory(pid: int) -> int:
    """Return the most that was ever resident of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

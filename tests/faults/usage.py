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
    """One sample of a process; ``memory`` is resident memory in KiB."""

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
    """Sample a process repeatedly for a while."""
    seen, step, end = [], threading.Event(), time.monotonic() + seconds
    while time.monotonic() < end:
        seen.append(usage(pid))
        step.wait(SAMPLE_EVERY)
    return seen


def growth(before: Sequence[Usage], after: Sequence[Usage]) -> tuple[float, int, int]:
    """Return the growth of memory in percent, and of the numbers of threads and descriptors.

    Medians are compared: a sample may fall on a connection attempt.
    """
    memory, threads, descriptors = (
        [
            statistics.median(getattr(sample, what) for sample in samples)
            for samples in (before, after)
        ]
        for what in ("memory", "threads", "descriptors")
    )
    return (
        100 * (memory[1] / memory[0] - 1),
        max(0, round(threads[1] - threads[0])),
        max(0, round(descriptors[1] - descriptors[0])),
    )


def most_memory(pid: int) -> int:
    """Return the peak resident memory of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

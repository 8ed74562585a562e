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
    """Return by how many percent memory grew, and by how much the most threads and descriptors.

    Memory is compared by medians: it goes up and down with what is in hand.
    """
    memories = [statistics.median(look.memory for look in looks) for looks in (before, after)]
    most = [
        (max(look.threads for look in looks), max(look.descriptors for look in looks))
        for looks in (before, after)
    ]
    (threads, descriptors), (threads_after, descriptors_after) = most
    percent = 100 * (memories[1] / memories[0] - 1)
    return percent, max(0, threads_after - threads), max(0, descriptors_after - descriptors)

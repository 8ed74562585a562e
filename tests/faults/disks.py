"""Disks that fill, fail and are slow: each in a mount namespace or under strace, as root."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.process import Daemon, started
from tests.tools import tool

TMPFS = "-t tmpfs none"
TO_THE_END = {"min_free": "0B"}
SHORT = {"path": "{stream}/%H-%M-%S.mp4", "segment": "1s"}


@contextmanager
def on_a_disk(config: Path, mount: str, *, later: bool = False) -> Iterator[tuple[Daemon, Path]]:
    """Run a daemon whose outputs are on a disk of its own; yields where it is seen from here.

    ``mount`` are the arguments of that program, without the folder. The disk that is to be
    there only ``later`` is not mounted: see `inside`.
    """
    state = config.parent / "state"
    state.mkdir(exist_ok=True)
    alone = [tool("unshare"), "--mount", "sh", "-c"]
    mounted = [*alone, f'mount {mount} {state} && exec "$@"', "sh"]
    if os.geteuid() or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip(f"nothing can be mounted here ({mount})")
    prefix = [*alone, 'exec "$@"', "sh"] if later else mounted
    with started(config, prefix=prefix) as daemon:
        yield daemon, Path(f"/proc/{daemon.process.pid}/root") / state.relative_to("/")


def inside(daemon: Daemon, *command: str) -> None:
    """Run a command that sees the daemon's disks."""
    subprocess.run(
        [tool("nsenter"), "--mount", f"--target={daemon.process.pid}", *command], check=True
    )


def injecting(paths: Sequence[Path], fault: str) -> list[str]:
    """Return what is put before a command whose calls on these files are to have a fault."""
    only = [option for path in paths for option in ("-P", str(path))]
    call = fault.partition(":")[0]
    quiet = ["-D", "-f", "-qqq", "-o", "/dev/null", "--seccomp-bpf"]
    return [tool("strace"), *quiet, "-e", f"trace={call}", "-e", f"inject={fault}", *only]


def fill(disk: Path) -> Path:
    """Take all the space that is left; returns the file that holds it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def failed(status: dict[str, Any]) -> int:
    return int(status["dropped"].get("record/failed", 0))


def wait_for_failures(daemon: Daemon, before: int) -> None:
    """Wait until more frames than ``before`` have failed to be written."""
    daemon.wait_for_status("cam", lambda status: failed(status) > before)


def wait_for_more(daemon: Daemon, key: str, count: int = 20) -> None:
    """Wait until more frames are inferred (`inferred`), or written (`record`)."""

    def now(status: dict[str, Any]) -> int:
        return int(status["written"]["record"] if key == "record" else status["inferred"])

    daemon.wait_until_reachable()
    before = now(daemon.status("cam"))
    daemon.wait_for_status("cam", lambda status: now(status) >= before + count)


def seconds_until(wait: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.monotonic()
    wait()
    return time.monotonic() - began

"""Disks that fill, fail and are slow: each in a mount namespace or under strace, as root."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.process import Daemon, started
from tests.tools import tool

_MOUNTED = 'mount $0 && exec "$@"'


@contextmanager
def on_a_disk(config: Path, mount: str) -> Iterator[tuple[Daemon, Path]]:
    """Run a daemon whose outputs are on a disk of its own; yields where it is seen from here.

    ``mount`` is what the program of that name is told, the folder left out.
    """
    state = config.parent / "state"
    state.mkdir(exist_ok=True)
    prefix = [tool("unshare"), "--mount", "sh", "-c", _MOUNTED.replace("$0", f"{mount} {state}")]
    if os.geteuid() or subprocess.run([*prefix, "sh", "true"], capture_output=True).returncode:
        pytest.skip(f"nothing can be mounted here ({mount})")
    with started(config, prefix=[*prefix, "sh"]) as daemon:
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

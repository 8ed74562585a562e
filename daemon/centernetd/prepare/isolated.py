"""Preparing a model in a separate process, which can be killed at any moment.

This also frees its memory and its temporary files, which are all in one folder.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, cast

from centernetd.errors import CenternetdError, StartupError, StoppedError
from centernetd.model import durable
from centernetd.model.progress import Progress
from centernetd.prepare.prepare import PrepareOptions, prepare

_POLL_INTERVAL = 0.1  # seconds
_SECONDS_TO_DIE = 1.0  # after SIGKILL; longer if a disk hangs
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # handled by the parent only


def prepare_isolated(
    source: Path, output: Path, options: PrepareOptions, progress: Progress
) -> None:
    """Run `prepare` in another process.

    Raises
    ------
    ModelError
        `source` is rejected; the message names it and the reason.
    StartupError
        `output` can't be written, or the process was killed.
    StoppedError
        `progress` requested it; no files are left behind.
    """
    with durable.writing(output), ExitStack() as stack:
        stack.callback(durable.sweep, output.parent)
        process = _start(stack.enter_context(durable.scratch(output.parent)))
        stack.callback(_end, process)
        into, out_of = cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)
        with suppress(BrokenPipeError):
            into.write(pickle.dumps((source, output, options)))
        while process.returncode is None:
            if not progress(f"preparing {source.name}", 0, 1):
                raise StoppedError("the preparation of the model was stopped")
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_INTERVAL)
        if failure := out_of.read():
            raise pickle.loads(failure)  # noqa: S301 - created by our own process
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise StartupError(f"{source}: preparing it was ended by {name}: out of memory?")
    if process.returncode:
        raise RuntimeError(f"preparing {source} failed")


def _start(temporary: Path) -> "subprocess.Popen[bytes]":
    run = "from centernetd.prepare import isolated; isolated.main()"
    code = f"import sys; sys.path[:] = {sys.path!r}; {run}"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # inherited by the child
    try:
        return subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-c", code],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
    except OSError as error:
        raise StartupError(f"a model can't be prepared: no process: {error.strerror}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        cast("BinaryIO", pipe).close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_SECONDS_TO_DIE)


def main() -> None:
    """Prepare what the parent sends on stdin, and write the error, if any, to stdout."""
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries may print
    task = pickle.load(sys.stdin.buffer)  # noqa: S301 - created by our own process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        prepare(*task)
    except (CenternetdError, OSError) as error:
        os.write(answer, pickle.dumps(error))


def _end_with_parent() -> None:
    os.read(0, 1)  # blocks until the parent exits: it keeps stdin open and sends nothing more
    os._exit(1)

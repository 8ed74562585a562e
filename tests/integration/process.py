"""The real command as a process of its own, with its log, its pages and its receipts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.conftest import CACHE
from tests.integration import sentinel

STOP_PROMISE = 5.0  # seconds from SIGTERM to the end
PROCESS_TIMEOUT = 120.0  # seconds until a test gives up waiting
LONGEST_RUN = 500.0  # seconds that a whole run may take on a machine that does much else

SQUARES_SIZE = (128, 128)  # the input of the network that marks coloured squares

_OUTPUTS = {
    "record": {"path": "{stream}.mp4", "segment": None},
    "events": {"frames": "always", "path": "{stream}.jsonl"},
}

Stream = Mapping[str, Any]

_RECEIPT = re.compile(
    r"(\S+): (\d+) captured = (\d+) (?:written|inferred) \+ (\d+) dropped"
    r"(?: \+ (\d+) not asked for)?"
)

_COUNTS = re.compile(
    r"(\S+): (\d+) tracks = (\d+) ended \+ (\d+) live"
    r"(?:; (\d+) entries = (\d+) exits \+ (\d+) inside)?(?:; (\d+) in, (\d+) out)?"
)


@dataclass(frozen=True)
class Receipt:
    """The last line of a run about a stream."""

    captured: int
    written: int
    dropped: int
    unwanted: int

    @property
    def balanced(self) -> bool:
        return self.captured == self.written + self.dropped + self.unwanted


@dataclass(frozen=True)
class Counts:
    """What the objects of a stream were counted as; 0 where it has no zones or lines."""

    tracks: int
    ended: int
    live: int
    entries: int
    exits: int
    inside: int
    crossed_in: int
    crossed_out: int

    @property
    def balanced(self) -> bool:
        visits = self.entries == self.exits + self.inside
        return visits and self.tracks == self.ended + self.live


@dataclass(frozen=True)
class Finished:
    """The result of a run: its exit code and its output."""

    code: int
    stdout: str
    stderr: str
    state: Path

    @property
    def receipts(self) -> dict[str, Receipt]:
        found = (_RECEIPT.fullmatch(line) for line in self.stdout.splitlines())
        return {m[1]: Receipt(*(int(count or 0) for count in m.groups()[1:])) for m in found if m}

    @property
    def counts(self) -> dict[str, Counts]:
        found = (_COUNTS.fullmatch(line) for line in self.stdout.splitlines())
        return {m[1]: Counts(*(int(count or 0) for count in m.groups()[1:])) for m in found if m}

    @property
    def log(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    def messages(self, level: str, stream: str) -> list[str]:
        """Return the messages logged for a stream at a level."""
        return [
            record["message"]
            for record in self.log
            if (record["level"], record.get("stream")) == (level, stream)
        ]


class Daemon:
    """A running command. Its output is read as it comes, so that it never blocks on a pipe."""

    def __init__(self, process: "subprocess.Popen[str]", state: Path, port: int | None) -> None:
        self.process = process
        self.state = state
        self._port = port
        self._searched = False
        self._leaks: list[str] = []
        self._output: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._heard = threading.Condition()
        pipes = {"stdout": process.stdout, "stderr": process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe), daemon=True)
            for name, pipe in pipes.items()
        ]
        for reader in self._readers:
            reader.start()

    def wait_for_log(self, text: str, count: int = 1) -> None:
        """Wait until ``count`` lines of the log contain ``text``."""
        with self._heard:
            lines = self._output["stderr"]
            assert self._heard.wait_for(
                lambda: sum(text in line for line in lines) >= count or self._ended, PROCESS_TIMEOUT
            ), lines
            assert sum(text in line for line in lines) >= count, lines

    def wait_until_reachable(self) -> None:
        """Wait until the daemon answers on its port, loaded or not."""
        deadline = time.monotonic() + PROCESS_TIMEOUT
        while not self._reachable:
            assert not self._ended, "".join(self._output["stderr"])
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one of the daemon's pages."""
        assert self._port is not None, "this daemon has no pages"
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        self._leaks += sentinel.found_in(path, body)
        return response.status, body

    def streams(self) -> dict[str, dict[str, Any]]:
        """Return the status of every stream, from /status."""
        code, body = self.get("/status")
        assert code == 200
        found: dict[str, dict[str, Any]] = json.loads(body)["streams"]
        return found

    def status(self, stream: str) -> dict[str, Any]:
        """Return the status of a stream, from /status."""
        return self.streams()[stream]

    def wait_for_metrics(self, sample: str) -> str:
        """Ask until ``sample`` is a line of /metrics, whose text may be a moment old; return it."""
        deadline = time.monotonic() + PROCESS_TIMEOUT
        while sample not in (text := self.get("/metrics")[1]).splitlines():
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return text

    def wait_for_frames(self, stream: str, count: int) -> dict[str, Any]:
        """Wait until ``count`` frames have been inferred; returns the stream's status then."""
        return self.wait_for_status(stream, lambda status: status["inferred"] >= count)

    def wait_for_status(
        self, stream: str, reached: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Ask until a stream's status is as wanted, and return it."""
        self.wait_until_reachable()
        deadline = time.monotonic() + PROCESS_TIMEOUT
        while not reached(status := self.status(stream)):
            assert time.monotonic() < deadline, status
            time.sleep(0.02)
        return status

    def send(self, number: signal.Signals) -> None:
        """Send a signal; before one that ends the daemon, its pages are read once more."""
        if number in (signal.SIGTERM, signal.SIGINT) and not self._searched:
            self._search()
        self.process.send_signal(number)

    def finish(self, timeout: float = LONGEST_RUN) -> Finished:
        """Wait until the command has ended; it must not have shown its cameras' password."""
        code = self.process.wait(timeout)
        self.join()
        output = {name: "".join(lines) for name, lines in self._output.items()}
        for name, text in output.items():
            self._leaks += sentinel.found_in(name, text)
        self._leaks += sentinel.found_in_files(self.state)
        assert not self._leaks, "\n".join(self._leaks)
        finished = Finished(code, output["stdout"], output["stderr"], self.state)
        assert all(counts.balanced for counts in finished.counts.values()), finished.stdout
        return finished

    def join(self) -> None:
        """Read what is left to read of a command that has ended."""
        for reader in self._readers:
            reader.join(PROCESS_TIMEOUT)

    def _search(self) -> None:
        """Look for the password in what can only be seen while the daemon runs."""
        self._searched = True
        self._leaks += sentinel.found_in_process(self.process.pid)
        if self._port is not None and self._reachable:
            for page in ("/metrics", "/readyz", "/status"):
                self.get(page)

    @property
    def _reachable(self) -> bool:
        try:
            self.get("/healthz")
        except ConnectionRefusedError:
            return False
        return True

    @property
    def _ended(self) -> bool:
        return self.process.poll() is not None

    def _read(self, name: str, pipe: Any) -> None:
        with pipe:
            for line in pipe:
                with self._heard:
                    self._output[name].append(line)
                    self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def nobody() -> str:
    """Return the URL of an unreachable camera: with it the daemon keeps running when files end."""
    return f"rtsp://127.0.0.1:{free_port()}/stream"


def write_config(
    folder: Path,
    streams: Mapping[str, Any],
    *,
    model: Path | str = "centerface",
    size: tuple[int, int] = (512, 512),
    port: int | None = None,
    **sections: Any,
) -> Path:
    """Write a config.yaml (JSON is YAML) for these streams; without a port it has no pages."""
    settings = {
        "version": 1,
        "logging": {"format": "json"},
        "streams": streams,
        "models": {"default": {"path": str(model), "input_size": list(size)}},
        "metrics": {"listen": None if port is None else f"127.0.0.1:{port}"},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings))
    return path


def configure(folder: Path, squares: Path, streams: Mapping[str, Stream], **sections: Any) -> Path:
    """Write the configuration of a daemon that records every frame and writes an event for it."""
    return write_config(
        folder,
        {name: {**_OUTPUTS, **stream} for name, stream in streams.items()},
        model=squares,
        size=SQUARES_SIZE,
        port=free_port(),
        **sections,
    )


def environment(config: Path) -> dict[str, str]:
    """Return what a command needs around it that is about the configuration ``config``."""
    return {
        **os.environ,
        "STATE_DIRECTORY": str(config.parent / "state"),
        "CACHE_DIRECTORY": str(CACHE),
        sentinel.VARIABLE: sentinel.ENCODED,
    }


def run_command(name: str, config: Path) -> tuple[int, str, str]:
    """Run another command on ``config``; return its code and output, without the password."""
    done = subprocess.run(
        [sys.executable, "-m", "centernetd", name, "-c", str(config)],
        env=environment(config),
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    leaks = sentinel.found_in("stdout", done.stdout) + sentinel.found_in("stderr", done.stderr)
    assert not leaks, "\n".join(leaks)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def started(
    config: Path,
    *,
    module: str = "centernetd",
    prefix: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """Run `centernetd run -c config`, with outputs in `state` next to the file; killed at the end.

    ``module`` is run in place of the package, ``prefix`` precedes the command, and
    ``environ`` is added to the environment. Its network sources get the sentinel password.
    """
    sentinel.plant(config)
    listen = json.loads(config.read_text())["metrics"]["listen"]
    state = config.parent / "state"
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", module, "run", "-c", str(config)],
        env={**environment(config), **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    daemon = Daemon(process, state, int(listen.rpartition(":")[2]) if listen else None)
    try:
        yield daemon
    finally:
        process.kill()
        process.wait()
        daemon.join()


def run(config: Path) -> Finished:
    """Run the command to its end."""
    with started(config) as daemon:
        return daemon.finish()


def stop(daemon: Daemon, within: float = LONGEST_RUN) -> Finished:
    """Stop a daemon within this many seconds; its code must be 0 and its counts must add up."""
    daemon.send(signal.SIGTERM)
    finished = daemon.finish(within)
    assert finished.code == 0, finished.stderr
    assert all(receipt.balanced for receipt in finished.receipts.values())
    return finished

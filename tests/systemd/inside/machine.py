"""What the steps do to the booted machine, with nothing but the standard library."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

MACHINE_TIMEOUT = 90.0  # seconds until what is waited for has failed to come
UNIT = "centernetd.service"
PORT = 10864

T = TypeVar("T")


def sh(command: str, *, check: bool = True) -> str:
    """Run a command of the shell; returns its output."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    if check and done.returncode:
        raise RuntimeError(f"{command!r} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def until(wanted: Callable[[], T], what: str) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + MACHINE_TIMEOUT
    while not (answer := wanted()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} never came about: {answer!r}")
        time.sleep(0.2)
    return answer


def show(*names: str, unit: str = UNIT) -> dict[str, str]:
    """Return properties of a unit."""
    output = sh(f"systemctl show {unit} --property={','.join(names)}")
    return dict(line.split("=", 1) for line in output.splitlines())


def state(unit: str = UNIT) -> dict[str, str]:
    """Return how a unit is doing and how its process ended."""
    return show("ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus", unit=unit)


def restarts() -> int:
    """Return how often systemd has restarted the service by itself."""
    return int(show("NRestarts")["NRestarts"])


def ask(path: str, port: int = PORT) -> tuple[int, str]:
    """Return status and body of one of the daemon's pages; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def stream(name: str, port: int = PORT) -> dict[str, Any]:
    """Return the status of a stream, or nothing if there is no such stream or no answer."""
    code, body = ask("/status", port)
    found: dict[str, Any] = json.loads(body)["streams"].get(name, {}) if code == 200 else {}
    return found


def wait_for_frames(name: str, more: int = 5, port: int = PORT) -> dict[str, Any]:
    """Wait until this many more frames of a stream have been inferred; returns its status then."""
    start = until(lambda: stream(name, port), f"the status of {name}")["inferred"]
    return until(
        lambda: (now := stream(name, port)) and now["inferred"] >= start + more and now,
        f"{more} frames of {name}",
    )


def wait_until_up(count: int = 1) -> str:
    """Wait until this many streams are up; returns the service's status line in systemd."""

    def text() -> str:
        output = show("StatusText")["StatusText"]
        return output if output.startswith(f"{count} of ") else ""

    return until(text, f"{count} streams up")


@contextmanager
def faulty(fault: str, settings: str = "") -> Iterator[None]:
    """Have the next starts of the service run the daemon with a fault in it."""
    drop_in = Path(f"/run/systemd/system/{UNIT}.d/fault.conf")
    drop_in.parent.mkdir(parents=True)
    command = "/opt/centernetd/bin/python /walk/inside/faulty.py run -c /etc/centernetd/config.yaml"
    lines = ["[Service]", f"Environment=FAULT={fault}", "ExecStart=", f"ExecStart={command}"]
    drop_in.write_text("\n".join([*lines, settings, ""]))
    sh("systemctl daemon-reload")
    try:
        yield
    finally:
        sh(f"rm -r {drop_in.parent}; systemctl daemon-reload")


def journal(unit: str = UNIT, since: str = "") -> str:
    """Return the journal of a unit, from a cursor on."""
    after = f"--after-cursor='{since}'" if since else ""
    return sh(f"journalctl --no-pager -o cat -u {unit} {after}")


def cursor() -> str:
    """Return the place in the journal where it now ends."""
    found = re.search(r"-- cursor: (.*)", sh("journalctl -n 0 --show-cursor"))
    assert found
    return found[1]

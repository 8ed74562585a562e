"""A support bundle: everything needed for a diagnosis, in one file without secrets."""

import dataclasses
import io
import json
import platform
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from centernetd.commands.status import find_config, find_daemon
from centernetd.config import Redactor, inline_secrets, load, shareable
from centernetd.doctor.doctor import examine
from centernetd.errors import CenternetdError, ConfigError, StartupError

TIMEOUT = 6.0
"""Seconds for all collectors together, which run concurrently."""

Collector = Callable[[], str]

_LINES = 3000  # of the journal: an hour in times of trouble, years otherwise
# Selected, since others such as Environment and ExecStart may contain passwords.
_PROPERTIES = (
    *("Id", "LoadState", "UnitFileState", "FragmentPath", "DropInPaths", "NeedDaemonReload"),
    *("ActiveState", "SubState", "StatusText", "Result", "NRestarts", "MainPID"),
    *("ExecMainCode", "ExecMainStatus", "ExecMainStartTimestamp", "ExecMainExitTimestamp"),
    *("ActiveEnterTimestamp", "WatchdogUSec", "WatchdogTimestamp", "LoadCredential"),
    *("MemoryCurrent", "MemoryMax", "CPUUsageNSec", "CPUQuotaPerSecUSec", "TasksCurrent"),
    *("DeviceAllow", "MemoryDenyWriteExecute"),
)
_COMMANDS = {
    "journal.txt": (
        *("journalctl", "--no-pager", "--output=short-iso", f"--lines={_LINES}"),
        *("--unit=centernetd.service", "--unit=centernetd@*.service"),
    ),
    "service.txt": (
        *("systemctl", "--no-pager", "show", f"--property={','.join(_PROPERTIES)}"),
        *("centernetd.service", "centernetd@*.service"),
    ),
}
# Not df, which hangs on unreachable disks.
_SYSTEM = (
    "loadavg",
    "meminfo",
    "uptime",
    "self/mounts",
    "pressure/cpu",
    "pressure/io",
    "pressure/memory",
)
_PAGES = ("metrics", "status", "healthz", "readyz")


def bundle(file: Path, config: Path | None = None, url: str | None = None) -> dict[str, str]:
    """Write ``file`` (tar, gzip), readable only by its owner; return its content by name.

    The daemon and its configuration are located as `find_daemon` does.

    Raises
    ------
    StartupError
        The file can't be written.
    """
    config = config or find_config()
    redact = Redactor(_secrets(config))
    content = gather(_collectors(config, url), TIMEOUT)
    redacted = {name: _redacted(text, redact) for name, text in content.items()}
    try:
        _write(file, redacted)
    except OSError as error:
        raise StartupError(f"{file}: can't be written: {error.strerror}") from None
    return redacted


def _secrets(config: Path | None) -> frozenset[str]:
    """Return the secrets of the configuration, including referenced ones that can be read."""
    if config is None:
        return frozenset()
    try:
        return inline_secrets(config) | load(config).secrets()
    except ConfigError:
        return inline_secrets(config)


def _redacted(text: str, redact: Redactor) -> str:
    """Return ``text`` without secrets; JSON stays valid, since only its strings are masked."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return redact(text)
    return json.dumps(_redacted_json(document, redact), indent=2, ensure_ascii=False) + "\n"


def _redacted_json(value: Any, redact: Redactor) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {redact(key): _redacted_json(inner, redact) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redacted_json(inner, redact) for inner in value]
    return redact(value) if isinstance(value, str) else value


def _collectors(config: Path | None, url: str | None) -> dict[str, Collector]:
    def page(name: str) -> Collector:
        return lambda: find_daemon(config, url).page(f"/{name}")

    def run(command: Sequence[str]) -> Collector:
        return lambda: _output(command)

    return {
        "versions.txt": _versions,
        "system.txt": _system,
        "doctor.json": _doctor,
        "config.json": lambda: _configuration(config),
        **{f"{name}.txt": page(name) for name in _PAGES},
        **{name: run(command) for name, command in _COMMANDS.items()},
    }


def _versions() -> str:
    packages = {f"{found.name} {found.version}" for found in distributions()}
    return "\n".join([f"Python {platform.python_version()}", *sorted(packages, key=str.lower), ""])


def _system() -> str:
    parts = [platform.platform() + "\n"]
    for name in _SYSTEM:
        file = Path("/proc") / name
        if file.is_file():
            parts.append(f"== {file}\n{file.read_text()}")
    return "".join(parts)


def _doctor() -> str:
    return json.dumps([dataclasses.asdict(finding) for finding in examine()], indent=2) + "\n"


def _configuration(config: Path | None) -> str:
    if config is None:
        return "not collected: there is no config.yaml here or in /etc/centernetd\n"
    return json.dumps(shareable(config), indent=2, ensure_ascii=False) + "\n"


def _output(command: Sequence[str]) -> str:
    """Return the full output of a system command, including errors."""
    program = shutil.which(command[0])
    if program is None:
        return f"not collected: {command[0]} is not on this machine\n"
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            text=True,
            timeout=TIMEOUT - 1,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not collected: {error}\n"
    return done.stdout


def gather(collectors: Mapping[str, Collector], timeout: float) -> dict[str, str]:
    """Run every collector in a thread and return the results ready within ``timeout`` seconds.

    Failures and timeouts are replaced by a sentence. None delays the others: a hanging thread is
    abandoned.
    """
    found: dict[str, str] = {}

    def collect(name: str, collector: Collector) -> None:
        try:
            found[name] = collector()
        except CenternetdError as error:
            found[name] = f"not collected: {error}\n"
        except Exception as error:
            found[name] = f"not collected, a fault in centernetd: {error!r}\n"

    threads = [
        threading.Thread(target=collect, args=item, name=f"collect:{item[0]}", daemon=True)
        for item in collectors.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"not collected: it took more than {timeout:g} s\n"
    return {name: found.get(name, late) for name in collectors}


def _write(file: Path, content: dict[str, str]) -> None:
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.touch(mode=0o600, exist_ok=False)
        with tarfile.open(part, "w:gz") as archive:
            for name, text in content.items():
                data = text.encode(errors="replace")
                entry = tarfile.TarInfo(f"centernetd-bundle/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)

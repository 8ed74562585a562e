"""Runs Debian's own `prometheus` and `promtool` for tests."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from tests.tools import tool

RULES = Path(__file__).resolve().parents[2] / "systemd" / "prometheus"
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/centernetd.*.yml"]
scrape_configs:
  - job_name: centernetd
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
ADDRESS = re.compile(r"Listening on.* address=127\.0\.0\.1:(\d+)")
READY = "Server is ready to receive web requests"


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples an expression gives now, each with `metric` and `value`."""
        data = self._get(f"query?query={quote(expression)}")
        result: list[dict[str, Any]] = data["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Return the number of an expression that gives one sample, None where it gives none."""
        samples = self.query(expression)
        assert len(samples) <= 1, samples
        return float(samples[0]["value"][1]) if samples else None

    def wait_for(self, expression: str, timeout: float = 30) -> float:
        """Ask until an expression (best a comparison) gives a sample, and return its number."""
        deadline = time.monotonic() + timeout
        while (value := self.value(expression)) is None:
            assert time.monotonic() < deadline, (expression, self.targets())
            time.sleep(0.2)
        return value

    def firing(self) -> set[tuple[str, str]]:
        """Return name and stream of each alert that fires ("" where it is of no stream)."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("stream", ""))
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def targets(self) -> list[dict[str, Any]]:
        """Return what is scraped, with `health` and `lastError`."""
        active: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return active

    def _get(self, path: str) -> dict[str, Any]:
        with urlopen(f"{self._url}/{path}", timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data


@contextmanager
def scraping(port: int, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes 127.0.0.1:`port` each second, with the shipped rules.

    It keeps its data in `folder`.
    """
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(port=port, rules=RULES))
    process = subprocess.Popen(
        [
            tool("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Prometheus(_wait_until_ready(process))
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_until_ready(process: "subprocess.Popen[str]") -> int:
    """Read its log until it has logged its address and that it is ready; returns its port."""
    assert process.stderr is not None
    port, ready, lines = None, False, []
    for line in process.stderr:
        lines.append(line)
        if match := ADDRESS.search(line):
            port = int(match[1])
        ready = ready or READY in line
        if ready and port is not None:
            return port
    raise AssertionError("prometheus ended:\n" + "".join(lines))


def check_metrics(text: str) -> str:
    """Return what `promtool check metrics` complains about: nothing for good metrics."""
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = done.stdout + done.stderr
    assert done.returncode == 0 or complaints, "promtool failed without a word"
    return complaints

"""The shipped rules for Prometheus: promtool tries them, and they name only what is exported."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from centernetd.service.metrics import FRAME_LATENCY
from scripts.metrics_catalog import catalog
from tests.tools import tool

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "systemd" / "prometheus"
TRIALS = sorted((ROOT / "tests" / "data").glob("alerts*.test.yml"))


def rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


RECORDED = rules("centernetd.rules.yml")
ALERTS = rules("centernetd.alerts.yml")


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [tool("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_example_and_its_rules() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_each_alert_fires_when_it_must_and_not_otherwise() -> None:
    promtool("test", "rules", *TRIALS)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_is_tried_both_ways_and_explained(rule: dict[str, Any]) -> None:
    trials = {
        bool(trial["exp_alerts"])
        for file in TRIALS
        for group in yaml.safe_load(file.read_text("utf-8"))["tests"]
        for trial in group["alert_rule_test"]
        if trial["alertname"] == rule["alert"]
    }
    assert trials == {True, False}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert f"`{rule['alert']}`" in (ROOT / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize(
    "rule", [*RECORDED, *ALERTS], ids=lambda rule: rule.get("alert") or rule["record"]
)
def test_rules_name_only_what_there_is(rule: dict[str, Any]) -> None:
    known = {name for entry in catalog() for name in entry.series} | {"up"}
    known |= {recorded["record"] for recorded in RECORDED}
    named = re.findall(r"\b(?:stream\w*:)?(?:centernetd|process)_[\w:]+|\bup\b", rule["expr"])
    assert named
    assert set(named) <= known


def test_the_limit_of_latency_is_a_bound_of_its_buckets() -> None:
    """Between two bounds Prometheus guesses: 0.6 s could then count as more than a second."""
    (alert,) = (rule for rule in ALERTS if rule["alert"] == "CenternetdLatencyHigh")
    assert float(alert["expr"].rpartition(">")[2]) in FRAME_LATENCY.buckets

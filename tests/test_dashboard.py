"""The dashboard for Grafana: current, of metrics that there are, in queries that parse."""

import json
import re
import runpy
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from scripts.metrics_catalog import catalog
from tests.tools import tool

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_dashboard.py"))
DASHBOARD: dict[str, Any] = json.loads(SCRIPT["FILE"].read_text("utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_it_is_current() -> None:
    committed = SCRIPT["FILE"].read_text("utf-8")
    assert committed == SCRIPT["render"](), "run python -m scripts.make_dashboard"


def test_a_metric_that_is_not_there_can_not_be_named() -> None:
    assert SCRIPT["named"]("rate(@segments_total[5m])") == "rate(centernetd_segments_total[5m])"
    assert SCRIPT["named"]("@process_open_fds") == "process_open_fds"
    with pytest.raises(LookupError, match="no such metric"):
        SCRIPT["named"]("@frames_forgotten_total")


def test_every_metric_of_streams_and_daemon_is_shown_or_known_not_to_be() -> None:
    elsewhere = {
        *("centernetd_stream_info", "centernetd_config_info", "centernetd_segments_total"),
        *("centernetd_frames_captured_total", "process_virtual_memory_bytes", "process_max_fds"),
    }
    text = "\n".join([*QUERIES, json.dumps(DASHBOARD["templating"])])
    shown = {entry.name for entry in catalog() if re.search(rf"\b{entry.name}(_|\b)", text)}
    assert {entry.name for entry in catalog()} - shown == elsewhere


def test_metrics_are_grouped_by_labels_that_they_have() -> None:
    labels = {
        name: {*entry.labels, "instance", "le"} for entry in catalog() for name in entry.series
    }
    for query in QUERIES:
        for by, metric in re.findall(r"by \(([^)]*)\) \(\w+\((\w+)", query):
            assert set(by.split(", ")) <= labels[metric], query


def _filled_in(query: str) -> str:
    """Return a query as Grafana sends it: with durations in place of its variables."""
    return query.replace("$__rate_interval", "5m").replace("$__range", "6h")


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    queries = [*QUERIES, DASHBOARD["annotations"]["list"][0]["expr"]]
    assert len(queries) > 20
    rules = [
        {"record": f"query:number_{number}", "expr": _filled_in(query)}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [tool("promtool"), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_lie_beside_one_another() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered = [
        {
            (x, y)
            for x in range(spot["x"], spot["x"] + spot["w"])
            for y in range(spot["y"], spot["y"] + spot["h"])
        }
        for spot in (panel["gridPos"] for panel in panels)
    ]
    assert max(x for cells in covered for x, _ in cells) < SCRIPT["WIDTH"]
    assert not any(one & other for one, other in combinations(covered, 2))

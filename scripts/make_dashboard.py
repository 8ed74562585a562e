"""Write systemd/prometheus/dashboard.json, for Grafana, from the metrics themselves.

Run ``python -m scripts.make_dashboard`` after changing a metric or a panel. Queries refer to
metrics as ``@name``; an unknown name is an error. The format is Grafana's "dashboard JSON model"
of schema version 39 (Grafana 11), which later versions also accept.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centernetd.service.metrics import PREFIX
from scripts.metrics_catalog import catalog

FILE = Path(__file__).resolve().parent.parent / "systemd" / "prometheus" / "dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8  # of the grid; of a panel

DAEMON = '{instance=~"$instance"}'
STREAM = '{instance=~"$instance", stream=~"$stream"}'
PER = "[$__rate_interval]"
OF_STREAM = "{{instance}} {{stream}}"

Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One panel: its queries by legend, and Grafana's names for its unit and kind."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: str = "timeseries"


def rate(metric: str, by: str, of: str = STREAM) -> str:
    """Return the query for a rate per second, by some labels."""
    return f"sum by ({by}) (rate(@{metric}{of}{PER}))"


def mean(metric: str, by: str) -> str:
    """Return the query for a histogram's mean, by some labels."""
    return f"{rate(f'{metric}_sum', by, DAEMON)} / {rate(f'{metric}_count', by, DAEMON)}"


def latency(share: float) -> str:
    """Return the query for a quantile of the frame latency."""
    buckets = rate("frame_latency_seconds_bucket", "instance, stream, le")
    return f"histogram_quantile({share}, {buckets})"


def stat(title: str, query: str, unit: str = "short") -> Panel:
    """Return a panel of one number."""
    return Panel(title, {"": query}, unit, "stat")


def graph(title: str, legend: str, query: str, unit: str = "short") -> Panel:
    """Return a panel of one query over time."""
    return Panel(title, {legend: query}, unit)


LOST = f'@frames_dropped_total{STREAM[:-1]}, reason!="unwanted"}}'
ROWS: Mapping[str, Sequence[Panel]] = {
    "Now": (
        stat("Streams up", f"sum(@stream_up{STREAM})"),
        stat("Streams down", f"count(@stream_up{STREAM} == 0) or vector(0)"),
        stat("Frames a second", f"sum(rate(@frames_inferred_total{STREAM}{PER}))"),
        stat("Latency, 99 %", f"max({latency(0.99)})", "s"),
        stat("Room for recordings", f"min(@storage_free_bytes{DAEMON})", "bytes"),
        stat("Since the last start", f"min(time() - @process_start_time_seconds{DAEMON})", "s"),
    ),
    "Streams": (
        Panel("Up", {OF_STREAM: f"@stream_up{STREAM}"}, kind="state-timeline"),
        graph("Frames a second", OF_STREAM, rate("frames_inferred_total", "instance, stream")),
        Panel(
            "Latency", {f"{OF_STREAM} 50 %": latency(0.5), f"{OF_STREAM} 99 %": latency(0.99)}, "s"
        ),
        graph(
            "Frames lost a second",
            f"{OF_STREAM} {{{{stage}}}} {{{{reason}}}}",
            f"sum by (instance, stream, stage, reason) (rate({LOST}{PER}))",
        ),
        graph("Age of the last frame", OF_STREAM, f"@frame_age_seconds{STREAM}", "s"),
        Panel("Frozen picture", {OF_STREAM: f"@stream_frozen{STREAM}"}, kind="state-timeline"),
        graph(
            "Damaged pictures per second",
            OF_STREAM,
            rate("frames_damaged_total", "instance, stream"),
        ),
        graph(
            "Pictures withheld for privacy per second",
            f"{OF_STREAM} {{{{reason}}}}",
            rate("privacy_frames_withheld_total", "instance, stream, reason"),
        ),
        graph("Lost threads", OF_STREAM, f"@capture_threads_lost{STREAM}"),
        graph("Pictures held on the GPU", OF_STREAM, f"@gpu_surfaces_held{STREAM}"),
        graph("Lag of the source", OF_STREAM, f"@source_lag_seconds{STREAM}", "s"),
        graph(
            "Reconnections in 5 minutes",
            f"{OF_STREAM} {{{{reason}}}}",
            f"sum by (instance, stream, reason) (increase(@reconnects_total{STREAM}[5m]))",
        ),
        graph(
            "Detections a second", "{{stream}} {{label}}", rate("detections_total", "stream, label")
        ),
        graph("Frames in flight", f"{OF_STREAM} {{{{stage}}}}", f"@frames_in_flight{STREAM}"),
    ),
    "Objects": (
        graph("Objects followed", OF_STREAM, f"@tracks_live{STREAM}"),
        graph(
            "Objects that came per minute",
            "{{stream}} {{label}}",
            f"60 * {rate('tracks_started_total', 'stream, label')}",
        ),
        graph(
            "Objects that went per minute",
            "{{stream}} {{label}}",
            f"60 * {rate('tracks_ended_total', 'stream, label')}",
        ),
        graph(
            "Crossings per minute",
            "{{stream}} {{line}} {{direction}} {{label}}",
            f"60 * {rate('line_crossings_total', 'stream, line, direction, label')}",
        ),
        graph(
            "Crossings in the time shown",
            "{{stream}} {{line}} {{direction}} {{label}}",
            "sum by (stream, line, direction, label) "
            f"(increase(@line_crossings_total{STREAM}[$__range]))",
        ),
        graph("Objects in a zone", "{{stream}} {{zone}} {{label}}", f"@zone_objects{STREAM}"),
        graph(
            "Visits that began per minute",
            "{{stream}} {{zone}} {{label}}",
            f"60 * {rate('zone_entries_total', 'stream, zone, label')}",
        ),
        graph(
            "Visits that ended per minute",
            "{{stream}} {{zone}} {{label}}",
            f"60 * {rate('zone_exits_total', 'stream, zone, label')}",
        ),
        graph(
            "Mean length of a visit",
            "{{stream}} {{zone}}",
            f"{rate('zone_dwell_seconds_sum', 'stream, zone')} / "
            f"{rate('zone_dwell_seconds_count', 'stream, zone')}",
            "s",
        ),
    ),
    "Inference": (
        graph("Mean time of a step", "{{stage}}", mean("stage_duration_seconds", "stage"), "s"),
        graph(
            "Inferences per second",
            "{{instance}} {{model}}",
            rate("model_inferences_total", "instance, model", DAEMON),
        ),
        graph("Mean batch", "{{instance}}", mean("batch_size", "instance")),
        graph("Mean time of building a plan", "", mean("plan_build_seconds", "instance"), "s"),
        graph("Busy slots", "{{instance}}", f"@slots_busy{DAEMON}"),
        Panel(
            "Engine",
            {"{{backend}} {{precision}} {{device}}": f"@engine_info{DAEMON}"},
            kind="state-timeline",
        ),
        graph("Frames in queues", "{{instance}} {{queue}}", f"@queue_frames{DAEMON}"),
    ),
    "Recording": (
        graph("Video written", OF_STREAM, rate("bytes_written_total", "instance, stream"), "Bps"),
        graph(
            "Frames safe a second",
            f"{OF_STREAM} {{{{sink}}}}",
            rate("frames_written_total", "instance, stream, sink"),
        ),
        graph("Room for recordings", "{{instance}}", f"@storage_free_bytes{DAEMON}", "bytes"),
        graph("Kept recordings", "{{instance}}", f"@storage_bytes{DAEMON}", "bytes"),
        graph(
            "Age of the oldest recording",
            "{{instance}}",
            f"time() - @oldest_segment_timestamp_seconds{DAEMON}",
            "s",
        ),
    ),
    "Process": (
        graph("Cores busy", "{{instance}}", f"rate(@process_cpu_seconds_total{DAEMON}{PER})"),
        graph("Memory", "{{instance}}", f"@process_resident_memory_bytes{DAEMON}", "bytes"),
        graph("Open files", "{{instance}}", f"@process_open_fds{DAEMON}"),
        Panel(
            "Last reload followed",
            {"{{instance}}": f"@config_last_reload_successful{DAEMON}"},
            kind="state-timeline",
        ),
        Panel(
            "Version", {"{{instance}} {{version}}": f"@build_info{DAEMON}"}, kind="state-timeline"
        ),
    ),
}


def named(query: str) -> str:
    """Replace ``@name`` by full metric names; raise `LookupError` for an unknown metric."""
    known = {name for entry in catalog() for name in entry.series}

    def full(match: re.Match[str]) -> str:
        for name in (PREFIX + match[1], match[1]):
            if name in known:
                return name
        raise LookupError(f"the dashboard asks for {match[1]}, and there is no such metric")

    return re.sub(r"@(\w+)", full, query)


def dashboard() -> Json:
    """Return the whole dashboard."""
    return {
        "uid": "centernetd",
        "title": "centernetd",
        "tags": ["centernetd"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [alerts()]},
        "templating": {"list": list(variables())},
        "panels": list(panels()),
    }


def alerts() -> Json:
    """Return the annotations that mark when alerts fired."""
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname=~"Centernetd.*", instance=~"$instance"}',
        "titleFormat": "{{alertname}} {{stream}}",
    }


def variables() -> Iterator[Json]:
    """Yield the selectors above the panels: the Prometheus, daemons and streams."""
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    of_daemon = f"{named('@build_info')}, instance"
    of_stream = f"{named('@stream_state')}{DAEMON}, stream"
    for name, query in (("instance", of_daemon), ("stream", of_stream)):
        yield {
            "name": name,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": f"label_values({query})", "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
        }


def panels() -> Iterator[Json]:
    """Yield each row's header and panels: one line of numbers, or three graphs per line."""
    ids, top = itertools.count(1), 0
    for title, row in ROWS.items():
        yield {
            "id": next(ids),
            "type": "row",
            "title": title,
            "gridPos": place(0, top, WIDTH, 1),
            "panels": [],
        }
        top += 1
        width, height = (4, 4) if row[0].kind == "stat" else (8, HEIGHT)
        for index, panel in enumerate(row):
            line, column = divmod(index, WIDTH // width)
            spot = place(column * width, top + line * height, width, height)
            yield {"id": next(ids), "gridPos": spot, **drawn(panel)}
        top += height * -(-len(row) // (WIDTH // width))


def place(x: int, y: int, width: int, height: int) -> Json:
    """Return a position in the grid."""
    return {"x": x, "y": y, "w": width, "h": height}


def drawn(panel: Panel) -> Json:
    """Return a panel without its position."""
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": letter, "datasource": SOURCE, "expr": named(query), "legendFormat": legend}
            for letter, (legend, query) in zip("ABCD", panel.queries.items(), strict=False)
        ],
    }


def render() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(), "utf-8")

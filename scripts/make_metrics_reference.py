"""Write the tables of docs/metrics.md from the metrics and enums themselves.

Run as ``python scripts/make_metrics_reference.py`` after one has changed. What stands above the
marker in the page is written by hand and kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from centernetd.flow import Reason, StageName, StreamState
from centernetd.flow.status import RECONNECT_REASONS
from centernetd.service.catalog import catalog
from centernetd.service.meters import STAGES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
MARKER = "<!-- Below: made by scripts/make_metrics_reference.py; don't edit. -->"

PLACES = {
    "capture": "decoded, waiting for inference",
    "inference": "taken up into a batch",
    "record": "inferred, owed to the recording",
    "events": "inferred, owed to the events file",
}
STEPS = {
    "decode": "one picture decoded and converted to BGR",
    "preprocess": "a batch letterboxed into its rows",
    "copy_in": "a batch copied to the GPU",
    "execute": "a batch in the network",
    "copy_out": "its detections copied back",
    "annotate": "one picture blurred and drawn into",
    "encode": "one picture encoded and written",
}
DROPPED = {
    "overflow": "a newer frame of a live stream took its place",
    "too_old": "it was older than `max_frame_age` when its turn came",
    "unwanted": "the configuration asks for fewer: `detect.max_fps`, `events.when`, `record.when`",
    "failed": "it could not be written",
    "shutdown": "the daemon stopped before its turn came",
}
RECONNECTED = {
    "unreachable": "no connection: refused, no route, no such host, no answer",
    "unauthorized": "the server refuses the name or password",
    "not_found": "the server has nothing at that path; the camera is not plugged in",
    "open_failed": "the source could not be opened for another reason",
    "read_failed": "reading from it failed",
    "stalled": "no frame came for `stall_timeout`",
    "stuck": "the library that reads it didn't come back either: another thread took over",
    "ended": "a live source ended its stream",
    "lagging": "its timeline fell too far behind the clock",
    "over_limit": "it sent more than is taken from one source: see [security.md](security.md)",
}
STATES = {
    "connecting": "opened for the first time, no frame yet",
    "running": "its frames come",
    "reconnecting": "lost, and tried again for ever",
    "stuck": "a thread hangs in foreign code: that of the capture 5 s after `stall_timeout`, that "
    "of the recording or the events after 20 s in one write",
    "ended": "its file is done or failed, or the daemon stops",
}


def reference() -> str:
    """Return the generated part of the page."""
    names = [stage.value for stage in StageName]
    parts = (
        metrics(),
        values("`stage`: where a frame is or was lost", PLACES, names),
        values("`stage` of `centernetd_stage_duration_seconds`: a step", STEPS, STAGES),
        values("`reason` of a dropped frame", DROPPED, [reason.value for reason in Reason]),
        values("`reason` of a reconnection", RECONNECTED, RECONNECT_REASONS),
        values("`state` of a stream", STATES, [state.value for state in StreamState]),
    )
    return "\n".join(line for part in parts for line in part)


def metrics() -> Iterator[str]:
    """Yield the table of all metrics."""
    yield "\n## Every metric\n"
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for entry in catalog():
        labels = ", ".join(f"`{label}`" for label in entry.labels)
        yield f"| `{entry.name}` | {entry.kind} | {labels} | {entry.help} |"


def values(title: str, meanings: Mapping[str, str], known: Iterable[str]) -> Iterator[str]:
    """Yield the table of one label's values, each of ``known`` with its meaning."""
    yield f"\n## {title}\n"
    yield "| value | meaning |"
    yield "|---|---|"
    for value in known:
        if value not in meanings:
            raise RuntimeError(f"{title}: say in {Path(__file__).name} what {value!r} means")
        yield f"| `{value}` | {meanings[value]} |"


def page(present: str) -> str:
    """Return the whole page, its hand-written part taken from ``present``."""
    return present.partition(MARKER)[0] + MARKER + "\n" + reference() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")

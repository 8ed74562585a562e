"""Write the tables of docs/metrics.md from the metrics and enums themselves.

Run ``python -m scripts.make_metrics_reference`` after changing one. The part of the page above the
marker is written by hand and kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from centernetd.flow import CAPTURE, INFERENCE, Reason, StreamState
from centernetd.flow.status import RECONNECT_REASONS
from centernetd.service.metrics import STAGES
from centernetd.sink.registry import SINKS
from scripts.metrics_catalog import catalog

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
MARKER = "<!-- Below: made by scripts/make_metrics_reference.py; don't edit. -->"

PLACES = {
    "capture": "decoded, waiting for inference",
    "inference": "in a batch",
    "record": "inferred, not yet in the recording",
    "events": "inferred, not yet in the events file",
}
STEPS = {
    "decode": "decoding a frame and converting it to BGR",
    "preprocess": "letterboxing a batch",
    "copy_in": "copying a batch to the GPU, unless all of its pictures were decoded there",
    "execute": "letterboxing what was decoded on the GPU, and running the network on a batch",
    "copy_out": "copying its detections back",
    "track": "following objects through a batch",
    "privacy": "fetching a frame from the GPU's memory, if it is there, and blurring it",
    "annotate": "drawing on a frame",
    "encode": "encoding a frame and writing it",
}
DROPPED = {
    "overflow": "a newer frame of a live stream replaced it",
    "too_old": "it was older than `max_frame_age` when it was due for inference",
    "unwanted": "excluded by the configuration: `detect.max_fps`, `events.frames`, `record.when`",
    "failed": "it could not be written",
    "shutdown": "the daemon stopped before it was processed",
}
RECONNECTED = {
    "unreachable": "no connection: refused, no route, no such host, no answer",
    "unauthorized": "the server refuses the name or password",
    "not_found": "the server does not have that path; the camera is not plugged in",
    "open_failed": "the source could not be opened for another reason",
    "read_failed": "reading from it failed",
    "stalled": "no frame came for `stall_timeout`",
    "stuck": "the library that reads it did not return either: another thread took over",
    "ended": "a live source ended its stream",
    "lagging": "its timeline fell too far behind the clock",
    "over_limit": "it exceeded the limits for one source: see [security.md](security.md)",
}
STATES = {
    "connecting": "being opened for the first time, no frame yet",
    "running": "frames are arriving",
    "reconnecting": "lost; retried indefinitely",
    "stuck": "a thread hangs in a library: the capture's, 5 s after `stall_timeout`, or the "
    "recording's or events', after 20 s in one write",
    "ended": "its file has finished or failed, or the daemon is stopping",
}


def reference() -> str:
    """Return the generated part of the page."""
    names = [CAPTURE, INFERENCE, *SINKS]
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
            raise RuntimeError(f"{title}: document {value!r} in {Path(__file__).name}")
        yield f"| `{value}` | {meanings[value]} |"


def page(present: str) -> str:
    """Return the whole page, its hand-written part taken from ``present``."""
    return present.partition(MARKER)[0] + MARKER + "\n" + reference() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")

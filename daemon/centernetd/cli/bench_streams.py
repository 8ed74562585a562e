"""Output of ``centernetd bench --streams``."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from centernetd.bench.load import Load

_COLUMNS = ("streams", "frames/s", "lost", "p50", "p99", "halves", "CPU", "MB", "fullest")
_NOTE = (
    "Latencies in ms, from decoding to detections: their median, their 99th percentile, and that "
    "of each half of the run. CPU in ms a frame. Lost frames were dropped; fullest is the part "
    "with the least time left."
)


def show_streams(loads: Iterable[Load]) -> None:
    """Print a row for each number of streams, once all runs are finished."""
    table = Table(*_COLUMNS)
    decoders: set[str] = set()
    bound = 0.0
    for load in loads:
        latency = load.latency
        table.add_row(
            str(load.streams),
            f"{load.inferred_fps:.0f}/{load.asked_fps:.0f}",
            str(load.dropped),
            *(_ms(seconds) for seconds in (latency.median, latency.p99)),
            f"{_ms(latency.early_p99)} {_ms(latency.late_p99)}",
            f"{load.cpu_per_frame * 1e3:.1f}",
            f"{load.rss / 1e6:.0f}",
            f"{load.fullest} {load.busy[load.fullest]:.0%}",
        )
        decoders.update(load.decoders)
        bound = load.bound
    console = Console()
    console.print(table)
    console.print(f"Decoded by {', '.join(sorted(decoders))}. {_NOTE}")
    console.print(f"p99 may be {_ms(bound)} in the last row: max_frame_age and two batches.")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"

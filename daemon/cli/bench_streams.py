"""What ``centernetd bench --streams`` prints."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from daemon.commands.load import Load


def show_streams(loads: Iterable[Load]) -> None:
    """Print a row for each number of streams, and what has the least time left."""
    table = Table("streams", "frames/s", "dropped", "p50", "p99 (halves)", "p99 may be")
    for heading in ("CPU a frame", "memory", "batch", "fullest"):
        table.add_column(heading)
    for load in loads:
        latency, busy = load.latency, load.busy[load.fullest]
        table.add_row(
            str(load.streams),
            f"{load.inferred_fps:.1f} of {load.asked_fps:.0f}",
            str(load.dropped),
            _ms(latency.median),
            f"{_ms(latency.p99)} ({latency.early_p99 * 1e3:.0f}, {latency.late_p99 * 1e3:.0f})",
            _ms(load.bound),
            f"{load.cpu_per_frame * 1e3:.2f} ms",
            f"{load.rss / 1e6:.0f} MB",
            f"{load.batch:.1f}",
            f"{load.fullest} {busy:.0%}",
        )
    console = Console()
    console.print(table)
    console.print(f"decoded by {', '.join(load.decoders)}; frames/s in the warm part of each run")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"

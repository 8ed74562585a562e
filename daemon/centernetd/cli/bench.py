"""``centernetd bench``: the cost of each stage, and the pipeline's speed against its bound."""

import re
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from centernetd.bench.gpu import GpuReport, bench_gpu
from centernetd.bench.pipeline import Report, bench_pipeline
from centernetd.bench.streams import Load, Workload, bench_streams
from centernetd.cli.options import ConfigFile, config_path, parse_resolution, read_config
from centernetd.service import logs

_COLUMNS = ("streams", "frames/s", "lost", "p50", "p99", "halves", "CPU", "MB", "fullest")
_NOTE = (
    "Latencies in ms, from decoding to detections: their median, their 99th percentile, and that "
    "of each half of the run. CPU in ms per frame. Lost frames were dropped; fullest is the part "
    "with the least time left."
)


def bench(
    config: ConfigFile = None,
    rounds: Annotated[int, typer.Option(help="Number of measurements; each is shown.", min=1)] = 1,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Measure the engine on the GPU alone.")
    ] = False,
    streams: Annotated[
        str | None,
        typer.Option(metavar="N,N...", help="Run N live streams at a time, once per number."),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="With --streams: the size of the pictures.")
    ] = "360x640",
    fps: Annotated[
        int, typer.Option(help="With --streams: frames per second.", min=1, max=240)
    ] = 10,
    seconds: Annotated[
        int, typer.Option(help="With --streams: the length of each run.", min=10, max=3600)
    ] = 30,
) -> None:
    """Measure the stages and the pipeline.

    On the first file stream, with the first of its models: each stage alone, a serial loop of
    them, and the pipeline. With --streams, all models run.
    """
    settings = read_config(config)
    logs.configure("warning")
    console = Console(stderr=True)
    with console.status("") as status:

        def show(text: str) -> None:
            status.update(f"measuring {text}")

        if streams is not None:
            workload = Workload(parse_resolution(size), fps, seconds)
            show_streams(bench_streams(config_path(config), _counts(streams), workload, show))
        elif gpu:
            _show_gpu(bench_gpu(settings, show))
        else:
            for number in range(rounds):
                report = bench_pipeline(settings, show)
                _show(report, f"round {number + 1} of {rounds}" if rounds > 1 else None)


def _counts(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9][0-9]{0,2}(,[1-9][0-9]{0,2})*", text):
        raise typer.BadParameter(f"{text!r}: write numbers of streams, as in 1,4,16")
    return [int(count) for count in text.split(",")]


def _show(report: Report, title: str | None) -> None:
    table = Table("measured on", "per frame", "frames/s", title=title)
    for stage, seconds in report.costs.items():
        table.add_row(f"{stage}, alone", _cpu_ms(seconds), "")
    table.add_section()
    whole = sum(report.costs.values())
    table.add_row(f"bound on {report.cores} cores", _cpu_ms(whole), f"{report.bound_fps:.1f}")
    table.add_row("serial loop", "", f"{report.serial_fps:.1f}")
    table.add_row("pipeline", "", f"{report.pipeline_fps:.1f}")
    table.add_section()
    for (streams, batch), seconds in report.overhead.items():
        name = f"the daemon itself, {streams} streams, batch {batch}"
        table.add_row(name, f"{seconds * 1e6:.0f} us CPU", "")
    for (streams, objects), cost in report.tracking.items():
        name = f"{objects} objects, {'1 stream' if streams == 1 else f'{streams} streams together'}"
        table.add_row(f"tracking {name}", f"{cost.tracker * 1e6:.0f} us CPU", "")
        table.add_row("  with a zone and a line", f"{cost.whole * 1e6:.0f} us CPU", "")
    console = Console()
    console.print(table)
    console.print(
        f"{report.frames} frames; pipeline / bound {report.pipeline_fps / report.bound_fps:.2f}, "
        f"pipeline / serial loop {report.pipeline_fps / report.serial_fps:.2f}; "
        f"in the model, decoding takes {report.decode:.1%} of the network's time on the CPU"
    )
    first, *others = report.models
    if others:
        console.print(
            f"Only {first}, the first model of {report.stream}, was measured, with all its labels: "
            f"{', '.join(others)} did not run and covered nothing; --streams runs all models."
        )


def _show_gpu(report: GpuReport) -> None:
    table = Table("batch", "frames/s", "copy in", "execute", "copy out", "enqueuing, CPU")
    for rate in report.rates:
        steps = [f"{rate.steps[step] * 1e3:.3f} ms" for step in ("copy_in", "execute", "copy_out")]
        cpu = f"{rate.cpu_seconds * 1e3:.3f} ms"
        table.add_row(str(rate.batch), f"{rate.frames_per_second:.0f}", *steps, cpu)
    console = Console()
    console.print(table)
    ran = report.engine
    console.print(f"{ran.backend} in {ran.precision} on {ran.device}, because {report.reason}")


def _cpu_ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms CPU"


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

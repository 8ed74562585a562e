"""``centernetd run``: the daemon."""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from centernetd.cli.options import (
    DEFAULT_MODEL,
    Confidence,
    ConfigFile,
    Invocation,
    Model,
    read_config,
)
from centernetd.cli.output import leave
from centernetd.commands.find import find_sources
from centernetd.commands.progress import FileProgress
from centernetd.config import Config, from_sources
from centernetd.errors import SourceError, StartupError
from centernetd.flow import Lane
from centernetd.run.signals import handle_signals
from centernetd.run.supervisor import Supervisor
from centernetd.service import logs
from centernetd.service.logs import LogHandler
from centernetd.sink.muxer import to_matroska
from centernetd.track.counts import TrackLedger

log = logging.getLogger(__name__)


class Draw(str, Enum):
    """Annotations drawn into a recording."""

    BOXES = "boxes"
    BLUR = "blur"
    NONE = "none"


def run(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Cameras, URLs, files, folders or patterns, instead of a configuration file.",
        ),
    ] = None,
    config: ConfigFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A folder, or with one SOURCE the recording: .mp4 or .mkv.",
        ),
    ] = None,
    model: Model = None,
    confidence: Confidence = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B", help="With SOURCE: only these labels.")
    ] = None,
    draw: Annotated[
        Draw | None, typer.Option(help="With SOURCE: what to draw into the recording.")
    ] = None,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="With SOURCE: also write STREAM.jsonl, a line for each frame with detections.",
        ),
    ] = False,
) -> None:
    """Run the daemon, or try sources without any configuration.

    It exits by itself once all sources are files that have been processed.
    """
    chosen = _stream_settings(confidence, labels, draw, events)
    settings = _settings(sources, config, output, model, chosen)
    level = "debug" if context.obj.debug else settings.logging.level
    handler = logs.configure(level, settings.logging.format, settings.secrets())
    _log_notices(settings)
    supervisor = Supervisor(settings, reread=None if sources else partial(_reread, config))
    with handle_signals(supervisor.stop, None if sources else supervisor.reload):
        code = _run(supervisor, settings, handler, context.obj, ad_hoc=bool(sources))
        if output is not None and output.suffix == ".mkv":
            _convert(supervisor.lanes)
        _print_results(supervisor.lanes, supervisor.tracks)
    if supervisor.left_behind:
        leave(code)
    raise typer.Exit(code)


def _stream_settings(
    confidence: float | None, labels: str | None, draw: Draw | None, events: bool
) -> dict[str, dict[str, Any]]:
    """Return the settings made by options, as sections of a stream's configuration."""
    chosen: dict[str, dict[str, Any]] = {"detect": {}, "record": {}, "events": {}}
    if confidence is not None:
        chosen["detect"]["confidence"] = confidence
    if labels:
        chosen["detect"]["labels"] = tuple(label.strip() for label in labels.split(","))
    if draw is not None:
        chosen["record"]["draw"] = ("boxes",) if draw is Draw.BOXES else ()
    if draw is Draw.BLUR:
        chosen["privacy"] = {"blur": {}}
    if events:
        chosen["events"]["frames"] = "detections"
    return chosen


def _settings(
    sources: list[str] | None,
    config: Path | None,
    output: Path | None,
    model: str | None,
    chosen: dict[str, dict[str, Any]],
) -> Config:
    """Return the configuration of the sources, or of the file if there are none."""
    if not sources and (output or model or any(chosen.values())):
        raise typer.BadParameter(
            "these options need a SOURCE; in a configuration file, use its keys instead"
        )
    if chosen["record"] and output is None:
        raise typer.BadParameter("--draw needs -o: nothing is recorded without it")
    if sources and config is not None:
        raise typer.BadParameter("give either a SOURCE or a configuration file, not both")
    if sources:
        return from_sources(find_sources(sources), output, model or DEFAULT_MODEL, chosen)
    return read_config(config)


def _reread(config: Path | None) -> Config:
    settings = read_config(config)
    _log_notices(settings)
    return settings


def _log_notices(settings: Config) -> None:
    for notice in settings.notices():
        log.warning(notice)


def _run(
    supervisor: Supervisor,
    settings: Config,
    handler: LogHandler,
    invocation: Invocation,
    *,
    ad_hoc: bool,
) -> int:
    """Run to the end and return the exit code; on failure, print what was captured."""
    has_user = ad_hoc and sys.stderr.isatty()
    only_files = all(stream.from_file for stream in settings.streams.values())
    console = Console(stderr=True, force_terminal=None if only_files else False)
    try:
        with FileProgress(lambda: supervisor.lanes, console) as progress:

            def on_tick() -> None:
                progress.update()
                handler.flush_repeats()
                if has_user:
                    _refuse_wrong_source(supervisor.lanes)

            return supervisor.run(on_tick)
    except Exception:
        invocation.engine_failed = supervisor.engine_failed or bool(supervisor.left_behind)
        with suppress(StartupError):  # the original error matters more than failing to print
            captured = [lane for lane in supervisor.lanes if lane.ledger.read().captured]
            _print_results(captured, supervisor.tracks)
        raise


def _convert(lanes: Iterable[Lane]) -> None:
    for lane in lanes:
        if lane.status.output is not None:
            lane.status.output = str(to_matroska(Path(lane.status.output)))


def _refuse_wrong_source(lanes: Sequence[Lane]) -> None:
    """Raise `SourceError` if a user waiting at a terminal mistyped a password, path or camera."""
    if any(lane.ledger.read().captured for lane in lanes):
        return
    for lane, reason in product(lanes, ("unauthorized", "not_found")):
        if lane.status.reconnects[reason]:
            raise SourceError(f"{lane.name}: {lane.status.last_error}", reason)


def _print_results(lanes: Sequence[Lane], tracks: Mapping[Lane, TrackLedger]) -> None:
    """Print each stream's recording or detections, then its receipts: of objects and frames."""
    for lane in lanes:
        if lane.status.output is not None:
            print(f"{lane.name}: recorded in {lane.status.output}")
        elif not lane.ledger.read().written:
            print(f"{lane.name}: found {_counts(lane) or 'nothing'}")
    for lane in lanes:
        for ledger in (tracks.get(lane), lane.ledger):
            if ledger is not None:
                print(f"{lane.name}: {ledger.read().receipt()}", flush=True)


def _counts(lane: Lane) -> str:
    counts = Counter[str]()
    for (_, label), count in lane.status.detections.items():
        counts[label] += count
    return ", ".join(f"{label} {count} times" for label, count in counts.most_common() if count)

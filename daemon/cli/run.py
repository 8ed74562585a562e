"""``centernetd run``: the daemon."""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from daemon.cli.leave import leave
from daemon.cli.options import ConfigFile, Invocation, read_config
from daemon.commands.progress import FileProgress
from daemon.config import Config, from_source
from daemon.errors import SourceError
from daemon.flow import Lane
from daemon.receipt import receipt
from daemon.service import LogHandler, logs
from daemon.signals import on_signals
from daemon.supervisor import Supervisor

log = logging.getLogger(__name__)


def run(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Argument(help="One source instead of a configuration file.")
    ] = None,
    config: ConfigFile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where SOURCE's recording goes."),
    ] = None,
) -> None:
    """Run the daemon.

    It ends by itself when all sources are files and done.
    """
    if source is None and output is not None:
        raise typer.BadParameter("-o goes with a SOURCE; a configuration names its own outputs")
    if source is not None and config is not None:
        raise typer.BadParameter("give either a SOURCE or a configuration file, not both")
    settings = read_config(config) if source is None else from_source(source, output)
    level = "debug" if context.obj.debug else settings.logging.level
    handler = logs.configure(level, settings.logging.format, settings.secrets())
    _tell_notices(settings)

    def reread() -> Config:
        again = read_config(config)
        handler.redactor.learn(again.secrets())
        _tell_notices(again)
        return again

    supervisor = Supervisor(settings, reread=reread if source is None else None)
    with on_signals(supervisor.stop, supervisor.reload if source is None else None):
        _run(supervisor, settings, handler, context.obj, alone=source is not None)


def _tell_notices(settings: Config) -> None:
    for notice in settings.notices():
        log.warning(notice)


def _run(
    supervisor: Supervisor,
    settings: Config,
    handler: LogHandler,
    invocation: Invocation,
    *,
    alone: bool,
) -> NoReturn:
    waited_for = alone and sys.stderr.isatty()
    only_files = all(stream.source.is_file for stream in settings.streams.values())
    console = Console(stderr=True, force_terminal=None if only_files else False)
    try:
        with FileProgress(supervisor.lanes, console) as progress:

            def on_tick() -> None:
                progress.update()
                handler.tell_repeats()
                if waited_for:
                    _refuse_wrong_password(supervisor.lanes)

            code = supervisor.run(on_tick)
    except Exception:
        _tell(lane for lane in supervisor.lanes if lane.ledger.read().captured)
        invocation.engine_failed = supervisor.engine_failed
        raise
    _tell(supervisor.lanes)
    if supervisor.left_behind:
        leave(code)
    raise typer.Exit(code)


def _refuse_wrong_password(lanes: Iterable[Lane]) -> None:
    """Raise SourceError where somebody waits at a terminal for a source that refuses them."""
    for lane in lanes:
        if lane.status.reconnects["unauthorized"] and not lane.ledger.read().captured:
            raise SourceError(f"{lane.name}: {lane.status.last_error}", "unauthorized")


def _tell(lanes: Iterable[Lane]) -> None:
    """Print where each stream's recording is, and then each stream's receipt."""
    lanes = list(lanes)
    for lane in lanes:
        if lane.status.output is not None:
            print(f"{lane.name}: recorded in {lane.status.output}")
    for lane in lanes:
        print(receipt(lane), flush=True)

"""The command line: arguments in, lines out; the work is done elsewhere."""

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from daemon.commands.progress import FileProgress
from daemon.config import Config, cache_dir, from_source, load, redact
from daemon.errors import CenternetdError
from daemon.model import zoo
from daemon.receipt import receipt
from daemon.service import logs
from daemon.supervisor import Supervisor

app = typer.Typer(
    name="centernetd",
    help="Runs CenterNet on cameras, RTSP streams and video files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]


def main() -> None:
    """Run the command line; an error is one sentence on stderr and an exit code."""
    try:
        app()
    except CenternetdError as error:
        if "--debug" in sys.argv:
            raise
        print(f"centernetd: {redact(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"centernetd {version('centernetd')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show tracebacks.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command."""
    logs.configure("debug" if debug else "info")


@app.command()
def run(
    source: Annotated[
        str | None, typer.Argument(help="One source instead of a configuration file.")
    ] = None,
    config: ConfigFile = Path("config.yaml"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where SOURCE's recording goes.")
    ] = None,
) -> None:
    """Run the daemon; it ends by itself when all sources are files and done."""
    if output is not None and source is None:
        raise typer.BadParameter("-o goes with a SOURCE; a configuration names its own outputs")
    settings = load(config) if source is None else from_source(source, output)
    if logging.getLogger().level != logging.DEBUG:
        logs.configure(settings.logging.level, settings.logging.format, settings.secrets())
    for notice in settings.notices():
        logging.getLogger(__name__).warning(notice)
    _run(settings)


def _run(settings: Config) -> NoReturn:
    supervisor = Supervisor(settings)
    only_files = all(stream.source.is_file for stream in settings.streams.values())
    console = Console(stderr=True, force_terminal=None if only_files else False)
    try:
        with FileProgress(supervisor.lanes, console) as progress:
            code = supervisor.run(progress.update)
    finally:
        for lane in supervisor.lanes:
            if lane.status.output is not None:
                print(f"{lane.name}: recorded in {lane.status.output}")
            print(receipt(lane), flush=True)
    if supervisor.left_behind:
        # A thread lost in native code would keep the interpreter from ending in order.
        logging.shutdown()
        os._exit(code)
    raise typer.Exit(code)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A built-in model, such as centerface.")],
) -> None:
    """Download a built-in model; the daemon itself never downloads."""
    print(zoo.fetch(name, cache_dir()))

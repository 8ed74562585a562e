"""All commands, their common options, and the handling of their errors."""

import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from centernetd.cli.bench import bench
from centernetd.cli.check import check
from centernetd.cli.daemon import reload, status
from centernetd.cli.detect import detect
from centernetd.cli.doctor import doctor
from centernetd.cli.models import build, export, fetch, prepare
from centernetd.cli.options import Invocation
from centernetd.cli.output import StandardError, StandardOutput, discard_unwritten, leave
from centernetd.cli.purge import purge
from centernetd.cli.run import run
from centernetd.errors import CenternetdError, ConfigError, StartupError
from centernetd.service import logs

_INTERRUPTED = 130

app = typer.Typer(
    name="centernetd",
    help="Runs CenterNet on cameras, RTSP streams and video files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; errors print one sentence on stderr and set an exit code."""
    invocation = Invocation()
    try:
        with (
            redirect_stdout(StandardOutput(sys.stdout)),
            redirect_stderr(StandardError(sys.stderr)),
        ):
            code = _run(arguments, invocation)
    except KeyboardInterrupt:  # while the commands are put together
        code = _INTERRUPTED
    except Exception as error:
        code = error.exit_code if isinstance(error, CenternetdError) else 1
        with suppress(OSError):
            _print_error(error, debug=invocation.debug)
    if invocation.engine_failed or code == _INTERRUPTED:
        leave(code)  # don't wait for threads that hang, in a library or on a camera
    discard_unwritten()
    sys.exit(code)


def _run(arguments: Sequence[str] | None, invocation: Invocation) -> int:
    """Return the exit code, once all output is written."""
    try:
        app(args=arguments, obj=invocation)
    except SystemExit as ended:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        return int(ended.code or 0)
    return 0


def _print_error(error: Exception, *, debug: bool) -> None:
    hide = logs.redactor()
    if debug:
        print(hide("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        return
    for sentence in _sentences(error):
        print(f"centernetd: {hide(sentence)}", file=sys.stderr)


def _sentences(error: Exception) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return str(error), *error.others
    if isinstance(error, CenternetdError):
        return (str(error),)
    if isinstance(error, PermissionError) and error.filename is not None:
        return (f"{error.filename}: permission denied: run it as a user who may access this",)
    return (f"a fault in centernetd: {error!r}; run it with --debug and report what it prints",)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"centernetd {version('centernetd')}")
        raise typer.Exit


def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show tracebacks.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Apply the options that are common to all commands."""
    try:
        Path.cwd()
    except OSError as error:
        raise StartupError(
            f"the working directory can't be used ({error.strerror}): change to another"
        ) from None
    context.obj.debug = debug
    logs.configure("debug" if debug else "info")


app.callback()(options)
for command in (
    run,
    status,
    reload,
    check,
    purge,
    detect,
    export,
    prepare,
    build,
    fetch,
    bench,
    doctor,
):
    app.command()(command)

"""Standard output and error: tables, masked secrets, and ending the process."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.table import Table

from centernetd.errors import StartupError
from centernetd.service import logs


class StandardOutput:
    """Standard output whose write errors can be distinguished from those of other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream returns
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``, or raise `StartupError`; `BrokenPipeError` if the reader is gone."""
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _output_error(error) from None

    def flush(self) -> None:
        """Flush the output; raises as `write` does."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _output_error(error) from None


class StandardError:
    """Standard error, without the secrets of what is printed there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the rest is the stream's own
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text`` masked."""
        return self._stream.write(logs.redactor()(text))


def leave(code: int) -> NoReturn:
    """Exit immediately: a thread lost in native code, or a lost GPU, rules out a clean exit.

    The interpreter would wait for the thread, and touch the GPU when freeing objects.
    """
    logging.shutdown()
    discard_unwritten()
    os._exit(code)


def discard_unwritten() -> None:
    """Flush or discard what is buffered: the interpreter would retry, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        _discard_unwritten(stream)


def _discard_unwritten(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _output_error(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return StartupError(f"standard output can't be written: {error.strerror}")


_WIDE = 1000  # for files and pipes, which need no wrapping


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print ``rows`` in aligned columns; on a terminal, long cells are wrapped."""
    table = Table(*heading, box=None, padding=(0, 3, 0, 0))
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(width=width, markup=False, highlight=False, emoji=False, no_color=True)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())

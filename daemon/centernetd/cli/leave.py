"""Ending the process: what was printed is written out, and the interpreter may be left out."""

import logging
import os
import sys
from typing import Any, NoReturn, TextIO

from centernetd.errors import StartupError


class StandardOutput:
    """Standard output, of which a failure can be told from that of any file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the rest is the stream's own
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``, or raise StartupError; BrokenPipeError where nobody reads on."""
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _told(error) from None

    def flush(self) -> None:
        """Write out what was printed; raises as `write` does."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _told(error) from None


def leave(code: int) -> NoReturn:
    """End now: a thread lost in native code, or a lost GPU, can't be ended in order.

    The interpreter would wait for the one, and touch the other when it frees what is left.
    """
    logging.shutdown()
    discard_unwritten()
    os._exit(code)


def discard_unwritten() -> None:
    """Flush, or throw away what is left: the interpreter would try again, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        _discard_unwritten(stream)


def _discard_unwritten(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _told(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return StartupError(f"standard output can't be written: {error.strerror}")

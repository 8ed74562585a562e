"""Tables on standard output."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

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

"""``centernetd status``: a table of a running daemon's streams."""

import typer

from centernetd.cli.options import ConfigFile, Json, Url
from centernetd.cli.table import print_table
from centernetd.commands.status import HEADING, find_daemon, headline, read, rows


def status(config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Show what a running daemon does; the exit code is 1 where it is not healthy."""
    body = find_daemon(config, url).page("/status")
    document = read(body)
    if as_json:
        print(body, end="")
    else:
        print(headline(document))
        print_table(HEADING, rows(document))
    raise typer.Exit(int(not document["healthy"]))

"""``centernetd status`` and ``centernetd reload``: requests to a running daemon."""

import sys

import typer

from centernetd.cli.options import ConfigFile, Json, Url, config_path
from centernetd.cli.output import print_table
from centernetd.commands.reload import reload as ask_to_reload
from centernetd.commands.status import HEADING, find_daemon, headline, read, rows
from centernetd.config import storage_root_of


def status(config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Show the state of a running daemon.

    The exit code is 1 if it is not healthy.
    """
    body = find_daemon(config, url).page("/status")
    document = read(body)
    if as_json:
        print(body, end="")
    else:
        print(headline(document))
        print_table(HEADING, rows(document))
    raise typer.Exit(int(not document["healthy"]))


def reload(config: ConfigFile = None) -> None:
    """Make a running daemon reload its configuration.

    Waits for the outcome, also while models are loaded. Changes of streams and defaults are applied
    stream by stream; others need a restart.
    """
    root = storage_root_of(config_path(config))
    print(ask_to_reload(root, lambda sentence: print(sentence, file=sys.stderr)))

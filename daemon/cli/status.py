"""``centernetd status``: a running daemon's table."""

from daemon.cli.options import ConfigFile, Json, Url
from daemon.cli.table import print_table
from daemon.commands.ask import find_daemon
from daemon.commands.status import HEADING, headline, read, rows


def status(config: ConfigFile = None, url: Url = None, as_json: Json = False) -> None:
    """Tell what a running daemon does."""
    body = find_daemon(config, url).page("/status")
    document = read(body)
    if as_json:
        print(body, end="")
        return
    print(headline(document))
    print_table(HEADING, rows(document))

"""``centernetd reload``: make a running daemon reload its configuration."""

from centernetd.cli.options import ConfigFile, config_path
from centernetd.commands.reload import reload as ask_to_reload
from centernetd.config import storage_root_of


def reload(config: ConfigFile = None) -> None:
    """Have the running daemon read its configuration again, and wait for the outcome.

    Streams and defaults are followed stream by stream; any other change needs a restart.
    """
    print(ask_to_reload(storage_root_of(config_path(config))))

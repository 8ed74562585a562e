"""The command line: parses arguments and prints results; the work is done elsewhere."""

from centernetd.cli.app import main

__all__ = ["main"]

"""The command line: arguments in, lines out; the work is done elsewhere."""

from centernetd.cli.app import main

__all__ = ["main"]

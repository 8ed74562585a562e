"""``centernetd doctor``: what this box has."""

import dataclasses
import json

import typer

from daemon.cli.options import Json
from daemon.cli.table import print_table
from daemon.commands.doctor import examine
from daemon.commands.finding import Level


def doctor(as_json: Json = False) -> None:
    """Tell what this box has, and what is missing."""
    findings = list(examine())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        rows = ((f.topic, f.level.value, f.found, f.mend) for f in findings)
        print_table(("what", "", "found", "what mends it"), rows)
    raise typer.Exit(int(any(finding.level is Level.MISSING for finding in findings)))

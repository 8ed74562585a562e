"""``centernetd doctor``: what this machine has."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from centernetd.cli.options import ConfigFile, Json, Url
from centernetd.cli.output import leave, print_table
from centernetd.doctor.bundle import bundle
from centernetd.doctor.doctor import examine
from centernetd.doctor.finding import Level


def doctor(
    as_json: Json = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.tar.gz",
            help="Instead, pack what helps to diagnose problems into FILE, without passwords.",
        ),
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
) -> None:
    """Report what this machine has, and what is missing."""
    if file is not None:
        if not file.name.endswith((".tar.gz", ".tgz")):
            raise typer.BadParameter(f"--bundle {file}: must end in .tar.gz, which is its format")
        _pack(file, config, url)
    findings = list(examine())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        rows = ((f.topic, f.level.value, f.found, f.mend) for f in findings)
        print_table(("what", "", "found", "how to fix it"), rows)
    raise typer.Exit(int(any(finding.level is Level.MISSING for finding in findings)))


def _pack(file: Path, config: Path | None, url: str | None) -> None:
    for name, text in bundle(file, config, url).items():
        if text.startswith("not collected"):
            print(f"{name}: {text}", end="")
    print(f"packed into {file}: review it before you send it, since it contains cameras' addresses")
    leave(0)  # don't hang, whatever else hangs on this machine

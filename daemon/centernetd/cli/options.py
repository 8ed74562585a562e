"""Options shared by several commands, and their evaluation."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from centernetd.config import Config, load
from centernetd.errors import ConfigError
from centernetd.service import logs

_DEFAULT_CONFIG = Path("config.yaml")


@dataclass
class Invocation:
    """The options before the command, available to every command in its context.

    A command sets ``engine_failed`` if the process can't exit cleanly.
    """

    debug: bool = False
    engine_failed: bool = False


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help=f"The configuration file [{_DEFAULT_CONFIG}]."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Where the daemon answers, such as http://HOST:PORT."
    ),
]


def read_config(path: Path | None, base_dir: Path | None = None) -> Config:
    """Load the configuration file, config.yaml by default.

    Raises
    ------
    ConfigError
        The file is missing or invalid.
    """
    config = load(config_path(path), base_dir)
    logs.redactor().learn(config.secrets())
    return config


def config_path(path: Path | None) -> Path:
    """Return the path of the configuration file, config.yaml by default.

    Raises
    ------
    ConfigError
        The file is missing.
    """
    path = path or _DEFAULT_CONFIG
    if not path.exists():
        raise ConfigError(
            f"{path}: there is no such file: give your configuration with -c FILE, "
            "or run a source without one: `centernetd run SOURCE -o FILE.mp4`"
        )
    return path


def parse_resolution(text: str) -> tuple[int, int]:
    """Parse ``HxW``, such as 512x512."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a valid size: write HEIGHTxWIDTH, as in 512x512")
    return int(match[1]), int(match[2])


InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size", metavar="HxW", help="The network's input in pixels; default: the model's."
    ),
]

DEFAULT_MODEL = "centerface"

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help=f"A built-in name or a file [{DEFAULT_MODEL}]."
    ),
]
Confidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="The minimum score; default: the model's.")
]

"""Sources named on the command line, without a configuration file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from centernetd.config import variables
from centernetd.config.config import Config
from centernetd.config.loader import merged
from centernetd.config.problems import Origins, describe, validation_errors
from centernetd.config.resolve import resolve
from centernetd.config.secret import SourceUri, shown
from centernetd.config.sections import FileConfig
from centernetd.config.values import source_uri
from centernetd.errors import ConfigError

_ORIGINS = Origins({(): ("command line", 1)})


def from_sources(
    sources: Sequence[str],
    output: Path | None = None,
    model: str = "centerface",
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Build the configuration of streams that record to ``output``, or only count if it is None.

    ``output`` is a folder, or for one source a file ending in .mp4 or .mkv. An .mkv is
    first recorded as .mp4. ``defaults`` holds further settings, like that section of a file.
    Metrics are not served, so that this can run next to a daemon that uses the port.
    Sources may contain ``${NAME}``; relative paths are relative to the working directory.

    Raises
    ------
    ConfigError
        If a source, the output or a value can't be used.
    """
    uris = [_uri(source) for source in sources]
    folder, file = _folder_and_file(output, alone=len(uris) == 1)
    path = "{stream}.mp4" if file is None else file.replace("%", "%%")
    record = {"when": "never"} if output is None else {"path": path, "segment": None}
    own = {"record": record, "events": {"frames": "never", "path": "{stream}.jsonl"}}
    names = [_slug(Path(file).stem)] if file else _names(uris)
    streams = {
        name: merged(own, {**(defaults or {}), "source": uri})
        for name, uri in zip(names, uris, strict=True)
    }
    data = {
        "version": 1,
        "models": {_slug(Path(model).stem): {"path": model}},
        "storage": {"root": str(folder)},
        "streams": streams,
        "metrics": {"listen": None},
    }
    return _resolved(data, output)


def _resolved(data: Mapping[str, Any], output: Path | None) -> Config:
    try:
        return resolve(FileConfig.model_validate(data), _ORIGINS, Path.cwd(), "")
    except ValidationError as error:
        for details in error.errors():
            if details["loc"][-2:] == ("record", "path"):
                why = describe(details["type"], details)
                raise ConfigError(f"output {output}: {why}") from None
        raise ConfigError.joined(validation_errors(error, FileConfig, _ORIGINS)) from None


def _uri(source: str) -> SourceUri:
    try:
        return source_uri(variables.expand(source))
    except ValueError as error:
        raise ConfigError(f"source {shown(source)}: {error}") from None


def _folder_and_file(output: Path | None, alone: bool) -> tuple[Path, str | None]:
    """Return the output folder, and the recording's file name if one is given."""
    if output is None:
        return Path.cwd(), None
    if output.is_dir() or not output.suffix:
        return output.absolute(), None
    if output.suffix not in (".mp4", ".mkv"):
        raise ConfigError(f"output {output}: must end in .mp4 or .mkv, or be a folder")
    if not alone:
        raise ConfigError(f"output {output}: must be a folder, as there are several sources")
    return output.absolute().parent, output.with_suffix(".mp4").name


def _names(uris: Sequence[SourceUri]) -> Sequence[str]:
    """Return a stream name for each source: a file's own name, numbered if it is taken."""
    names: list[str] = []
    for uri in uris:
        stem = _slug(Path(uri.reveal()).stem) if uri.is_file else "stream"
        taken = 1
        while (name := stem if taken == 1 else f"{stem[:60]}-{taken}") in names:
            taken += 1
        names.append(name)
    return names


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:63] or "stream"

"""Reads parts of a configuration outside the daemon; its passwords need not be available."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from centernetd.config import document, variables
from centernetd.config.loader import CAMERA_FOLDER, camera_files, read_file
from centernetd.config.problems import Origins
from centernetd.config.resolve import state_dir
from centernetd.config.secret import MASK, redact, secrets_in, shown
from centernetd.config.sections import MetricsConfig, StorageConfig
from centernetd.config.values import Address
from centernetd.errors import ConfigError


def listen_of(path: Path) -> Address | None:
    """Return the ``metrics.listen`` of a configuration file, ignoring everything else in it.

    Raises ConfigError if the file or the key can't be read.
    """
    try:
        return MetricsConfig.model_validate(_section(path, "metrics", "listen")).listen
    except ValidationError:
        raise ConfigError(
            f"{path}: metrics.listen can't be read; `centernetd check -c {path}` shows why"
        ) from None


def storage_root_of(path: Path) -> Path:
    """Return the storage root of a configuration file; otherwise like `listen_of`."""
    root = _section(path, "storage", "root").get("root")
    return state_dir() / (root if isinstance(root, str) else StorageConfig().root)


def shareable(path: Path) -> dict[str, Any]:
    """Return the contents of a configuration file and of ``streams.d`` by name, without secrets.

    The contents are the parsed values, without comments, which may contain anything. For a file
    that can't be read, a sentence is returned instead.
    """
    try:
        cameras = camera_files(path.parent / CAMERA_FOLDER)
    except ConfigError:
        cameras = []
    return {file.name: _masked(_parsed_or_sentence(file)) for file in (path, *cameras)}


def inline_secrets(path: Path) -> frozenset[str]:
    """Return the passwords written in a configuration file itself or in ``streams.d``."""
    found: frozenset[str] = frozenset()
    try:
        for file in (path, *camera_files(path.parent / CAMERA_FOLDER)):
            found |= secrets_in(read_file(file).decode(errors="replace"))
    except ConfigError:
        pass
    return found


def _section(path: Path, name: str, key: str) -> dict[str, Any]:
    """Return a section with only ``key``, if set, and its variables expanded."""
    data = _parse(path)
    section = data.get(name) if isinstance(data, dict) else None
    if not isinstance(section, dict) or key not in section:
        return {}
    value = section[key]
    try:
        return {key: variables.expand(value) if isinstance(value, str) else value}
    except ValueError as error:
        raise ConfigError(f"{path}: {name}.{key}: {error}") from None


def _parse(path: Path) -> Any:  # noqa: ANN401 - a document may be anything
    return document.parse(read_file(path), str(path), Origins(), expand=str)


def _parsed_or_sentence(path: Path) -> Any:  # noqa: ANN401
    try:
        return _parse(path)
    except ConfigError as error:
        return str(error)


def _masked(value: Any, key: str = "") -> Any:  # noqa: ANN401
    """Return ``value`` with each string masked, including those whose key marks them as secret."""
    if isinstance(value, dict):
        return {shown(name): _masked(inner, name) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_masked(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    return shown(value) if redact(f"{key}=x") == f"{key}=x" else MASK

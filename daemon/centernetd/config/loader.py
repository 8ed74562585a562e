"""From a file and its ``streams.d`` folder to a Config."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from centernetd.config import document, regular
from centernetd.config.config import Config
from centernetd.config.problems import Origins, validation_errors
from centernetd.config.resolve import resolve
from centernetd.config.sections import OUTDATED, FileConfig
from centernetd.errors import ConfigError

CAMERA_FOLDER = "streams.d"

_MAX_FILE_SIZE = 256 * 1024


def load(path: Path, base_dir: Path | None = None) -> Config:
    """Read a configuration file and the ``streams.d`` next to it.

    With ``base_dir``, the file is read as if it were in that folder, so that a copy can be checked
    before it replaces the original. Raises ConfigError, with a sentence naming file, line and key
    for each mistake.
    """
    base_dir = base_dir or path.parent
    origins = Origins()
    raw = read_file(path)
    digest = hashlib.sha256(raw)
    data = _mapping(raw, path, origins, ())
    if data.get("streams") in (None, ""):
        data["streams"] = {}
    mistakes: list[ConfigError] = []
    for camera in camera_files(base_dir / CAMERA_FOLDER):
        try:
            raw = read_file(camera)
            digest.update(camera.name.encode() + b"\0" + raw)
            _add_camera(data["streams"], camera, raw, origins)
        except ConfigError as error:  # noqa: PERF203
            mistakes.append(error)
    _merge_defaults(data)
    try:
        file = FileConfig.model_validate(data, context={"units": "required"})
    except ValidationError as error:
        mistakes = [*validation_errors(error, FileConfig, origins), *mistakes]
    if mistakes:
        raise ConfigError.joined(mistakes)
    return resolve(file, origins, base_dir.absolute(), digest.hexdigest())


def read_file(path: Path) -> bytes:
    """Return the content of a regular file of at most 256 KiB, or raise ConfigError."""
    try:
        return regular.read(path, _MAX_FILE_SIZE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a file name"
        raise ConfigError(f"{path}: can't be read: {reason}") from None


def _mapping(raw: bytes, path: Path, origins: Origins, prefix: tuple[str, ...]) -> dict[str, Any]:
    data = document.parse(raw, str(path), origins, prefix)
    if data in (None, ""):
        raise ConfigError(f"{path}: is empty")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: must be a mapping of keys")
    return data


def camera_files(folder: Path) -> list[Path]:
    """Return the files that each add a stream, without hidden ones, which editors leave behind."""
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{folder}: can't be read: {error.strerror}") from None
    for path in files:
        if path.suffix == ".yml":
            raise ConfigError(f"{path}: must end in .yaml to be read")
    return [path for path in files if path.suffix == ".yaml"]


def _add_camera(streams: Any, path: Path, raw: bytes, origins: Origins) -> None:  # noqa: ANN401
    location = ("streams", path.stem)
    if not isinstance(streams, dict):
        raise origins.error(("streams",), "must be a mapping of names")
    if path.stem in streams:
        file, line = origins.find(location)
        raise ConfigError(f"{path}:1: a stream {path.stem!r} is already in {file}:{line}")
    streams[path.stem] = _mapping(raw, path, origins, location)


def _merge_defaults(data: dict[str, Any]) -> None:
    defaults, streams = data.get("defaults"), data["streams"]
    if isinstance(defaults, dict) and isinstance(streams, dict):
        data["streams"] = {
            name: merged(_not_renamed(defaults, own), own) if isinstance(own, dict) else own
            for name, own in streams.items()
        }


def _not_renamed(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` without the old names of keys that a stream sets by their new ones."""
    for old, new in OUTDATED.items():
        if _has(own, new):
            defaults = _without(defaults, old)
    return defaults


def _has(data: object, keys: tuple[str, ...]) -> bool:
    if not keys:
        return True
    return isinstance(data, dict) and keys[0] in data and _has(data[keys[0]], keys[1:])


def _without(data: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    if not _has(data, keys):
        return data
    first, *below = keys
    if below:
        return {**data, first: _without(data[first], tuple(below))}
    return {key: value for key, value in data.items() if key != first}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` updated with the keys of ``over``, section by section."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = merged(below, value)
        result[key] = value
    return result

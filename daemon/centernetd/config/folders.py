"""Where outputs and caches go: the folders set by systemd, otherwise the user's."""

import os
from pathlib import Path

from centernetd.errors import ConfigError


def state_dir() -> Path:
    """Return ``$STATE_DIRECTORY`` (the first, if several), otherwise the working directory."""
    return _from_systemd("STATE_DIRECTORY") or Path.cwd()


def cache_dir() -> Path:
    """Return ``$CACHE_DIRECTORY``, or ``centernetd`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises ConfigError if there is no home folder either.
    """
    if folder := _from_systemd("CACHE_DIRECTORY"):
        return folder
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).absolute() / "centernetd"
    try:
        return Path.home() / ".cache" / "centernetd"
    except RuntimeError:
        raise ConfigError("there is no home folder: set CACHE_DIRECTORY to a folder") from None


def _from_systemd(variable: str) -> Path | None:
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first).absolute() if first else None

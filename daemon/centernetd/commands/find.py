"""Expanding the file names, patterns and folders given on the command line."""

from collections.abc import Collection, Sequence
from glob import glob, has_magic
from pathlib import Path

from centernetd.config.secret import CONTAINERS
from centernetd.errors import SourceError


def find_files(names: Sequence[str], suffixes: Collection[str]) -> list[Path]:
    """Return the files that ``names`` match, without duplicates: files, patterns, and folders.

    Of a folder, the files whose lower-cased suffix is in ``suffixes`` are returned. A name without
    a match is returned unchanged, so that reading it reports the error.
    """
    return list(dict.fromkeys(path for name in names for path in _expand(name, suffixes)))


def find_sources(names: Sequence[str]) -> list[str]:
    """Return the sources that ``names`` match: URLs and cameras unchanged, files otherwise.

    Raises
    ------
    SourceError
        When a folder or a pattern matches no video file.
    """
    return list(dict.fromkeys(source for name in names for source in _sources(name)))


def _sources(name: str) -> Sequence[str]:
    if not name or "://" in name or name.startswith("v4l2:"):
        return [name]
    if not has_magic(name) and not Path(name).is_dir():
        return [name]
    paths = [path for path in _expand(name, CONTAINERS) if path.is_file()]
    if not paths:
        raise SourceError(f"{name}: no video files found")
    # with a slash, since a name with a colon would be parsed as a scheme
    return [f"./{path}" if path.name == str(path) else str(path) for path in paths]


def _expand(name: str, suffixes: Collection[str]) -> Sequence[Path]:
    path = Path(name)
    if path.is_dir():
        return _inside(path, suffixes) or [path]
    if has_magic(name) and not path.exists():
        # Path.glob would need folder and pattern separately
        return [Path(found) for found in sorted(glob(name, recursive=True))] or [path]  # noqa: PTH207
    return [path]


def _inside(folder: Path, suffixes: Collection[str]) -> Sequence[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError:
        return []

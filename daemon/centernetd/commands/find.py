"""Files as the command line names them: by themselves, by patterns, or by their folder."""

from collections.abc import Collection, Sequence
from glob import glob, has_magic
from pathlib import Path

from centernetd.config.secret import CONTAINERS


def find_files(names: Sequence[str], suffixes: Collection[str]) -> list[Path]:
    """Return the files that ``names`` mean, each once: files, patterns, and folders' files.

    Of a folder those are taken that end in one of ``suffixes``, in small letters. What means no
    file is returned as it is, so that reading it says why.
    """
    return list(dict.fromkeys(path for name in names for path in _expand(name, suffixes)))


def find_sources(names: Sequence[str]) -> list[str]:
    """Return the sources that ``names`` mean: URLs and cameras as they are, else files."""
    return list(dict.fromkeys(source for name in names for source in _sources(name)))


def _sources(name: str) -> Sequence[str]:
    if "://" in name or name.startswith("v4l2:") or not (has_magic(name) or Path(name).is_dir()):
        return [name]
    # with a slash, as a name with a colon would be taken for a scheme
    paths = _expand(name, CONTAINERS)
    return [f"./{path}" if path.name == str(path) else str(path) for path in paths]


def _expand(name: str, suffixes: Collection[str]) -> Sequence[Path]:
    path = Path(name)
    if path.is_dir():
        return _inside(path, suffixes) or [path]
    if has_magic(name) and not path.exists():
        # Path.glob would want the folder and the pattern apart
        return [Path(found) for found in sorted(glob(name, recursive=True))] or [path]  # noqa: PTH207
    return [path]


def _inside(folder: Path, suffixes: Collection[str]) -> Sequence[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError:
        return []

"""What a config names as a model, and the prepared file that stands for it."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from daemon.errors import ModelError
from daemon.model import files, zoo
from daemon.model import manifest as manifests
from daemon.model.manifest import Manifest
from daemon.model.prepare import VERSION, PrepareOptions, prepare


def resolve(
    path: str,
    *,
    base_dir: Path,
    cache_dir: Path,
    input_size: tuple[int, int] | None,
    labels: Sequence[str] | None,
) -> Path:
    """Return the prepared ONNX file for `path`: a built-in name, an export, or a prepared model.

    A relative path is seen from `base_dir`. An export is prepared at its first use and kept in
    `cache_dir`; a prepared model that is what is asked for is returned itself. Nothing is
    downloaded.

    Raises
    ------
    ModelError
        The model is missing, refused, or not what `input_size` and `labels` ask for.
    StartupError
        The cache can't be written.
    """
    source = _source(path, base_dir, cache_dir)
    options = PrepareOptions(input_size=input_size, labels=tuple(labels) if labels else None)
    with files.naming(source):
        model, digest = files.load(source)
        manifest = manifests.find(model)
    if manifest is not None and _is_wanted(manifest, options):
        return source
    prepared = cache_dir / "prepared" / f"{source.stem}-{_key(digest, options)}.onnx"
    if not prepared.exists():
        prepare(source, prepared, options)
    return prepared


def _source(path: str, base_dir: Path, cache_dir: Path) -> Path:
    if path not in zoo.BUILTINS:
        return base_dir / Path(path).expanduser()
    source = zoo.location(path, cache_dir)
    if not source.exists():
        raise ModelError(
            f"{path}: this built-in model is not in {cache_dir}: run `centernetd fetch {path}`"
        )
    return source


def _is_wanted(manifest: Manifest, options: PrepareOptions) -> bool:
    return options.input_size in (None, manifest.input_size) and options.labels in (
        None,
        manifest.labels,
    )


def _key(digest: str, options: PrepareOptions) -> str:
    said = json.dumps([VERSION, digest, dataclasses.asdict(options)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]

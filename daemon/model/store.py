"""What a config names as a model, and the prepared file that stands for it."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from daemon.errors import ModelError
from daemon.model import contract, files, zoo
from daemon.model import manifest as manifests
from daemon.model.manifest import Manifest
from daemon.model.precision import FLOAT32
from daemon.model.prepare import VERSION, PrepareOptions, prepare


def resolve(
    path: str,
    *,
    base_dir: Path,
    cache_dir: Path,
    input_size: tuple[int, int] | None,
    labels: Sequence[str] | None,
    precision: str | None = None,
    precision_of_exports: str = FLOAT32,
) -> Path:
    """Return the prepared ONNX file for `path`: a built-in name, an export, or a prepared model.

    A relative path is seen from `base_dir`. An export is prepared at its first use and kept in
    `cache_dir`; a prepared model that is what is asked for is returned itself. Nothing is
    downloaded. Without a `precision`, a prepared model keeps its own and an export is prepared
    in `precision_of_exports`.

    Raises
    ------
    ModelError
        The model is missing, refused, or not what `input_size`, `labels` and `precision` ask for.
    StartupError
        The cache can't be written.
    """
    source = locate(path, base_dir, cache_dir)
    options = PrepareOptions(
        input_size=input_size, labels=tuple(labels) if labels else None, precision=precision
    )
    with files.naming(source):
        model, digest = files.load(source)
        manifest = manifests.find(model)
    if manifest is not None and _is_wanted(manifest, options):
        return source
    if precision is None and not contract.is_met_by(model):
        options = dataclasses.replace(options, precision=precision_of_exports)
    prepared = cache_dir / "prepared" / f"{source.stem}-{_key(digest, options)}.onnx"
    if not prepared.exists():
        prepare(source, prepared, options)
    return prepared


def locate(path: str, base_dir: Path, cache_dir: Path) -> Path:
    """Return the file that is meant by a built-in name, or by a path seen from `base_dir`.

    Raises
    ------
    ModelError
        The built-in model has not been fetched.
    """
    if path not in zoo.BUILTINS:
        return base_dir / Path(path).expanduser()
    source = zoo.location(path, cache_dir)
    if not source.exists():
        raise ModelError(
            f"{path}: this built-in model is not in {cache_dir}: run `centernetd fetch {path}`"
        )
    return source


def _is_wanted(manifest: Manifest, options: PrepareOptions) -> bool:
    return all(
        getattr(options, name) in (None, getattr(manifest, name))
        for name in ("input_size", "labels", "precision")
    )


def _key(digest: str, options: PrepareOptions) -> str:
    said = json.dumps([VERSION, digest, dataclasses.asdict(options)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]

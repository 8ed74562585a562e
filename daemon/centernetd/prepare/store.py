"""From the model named in a configuration to its prepared file."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from centernetd.errors import ModelError
from centernetd.model import contract, durable, files, sealed, zoo
from centernetd.model import manifest as manifests
from centernetd.model.manifest import FLOAT32, Manifest, PreparedModel
from centernetd.model.progress import LoggedProgress, Progress
from centernetd.prepare.isolated import prepare_isolated
from centernetd.prepare.prepare import PrepareOptions, about

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Request:
    """A requested model: `path` is a built-in name, an export, or a prepared model.

    A relative path is relative to `base_dir`. Without a `precision`, a prepared model keeps its
    own and an export is prepared in `precision_of_exports`.
    """

    path: str
    base_dir: Path
    cache_dir: Path
    input_size: tuple[int, int] | None = None
    labels: Sequence[str] | None = None
    precision: str | None = None
    precision_of_exports: str = FLOAT32


@dataclasses.dataclass(frozen=True)
class _Cached:
    """A file of the cache: the options it is prepared with, and what its seal must contain."""

    path: Path
    options: PrepareOptions
    seal: Mapping[str, str]


def resolve(request: Request, progress: Progress | None = None) -> PreparedModel:
    """Return the prepared model for `request`.

    An export is prepared on first use and cached, and again if the cached file is damaged. A
    prepared model that matches the request is returned itself. Nothing is downloaded. Each file
    is parsed once.

    Raises
    ------
    ModelError
        The model is missing, rejected, or doesn't match the request.
    StartupError
        The cache can't be read or written, or the built-in model in it is damaged.
    StoppedError
        `progress` requested it.
    """
    found = _find(request)
    if isinstance(found, PreparedModel):
        return found
    durable.sweep(found.path.parent)
    if reason := _fault(found):
        if os.path.lexists(found.path):
            log.warning("preparing %s again, because %s", found.path, reason)
        durable.make_way(found.path)
        source = locate(request.path, request.base_dir, request.cache_dir)
        prepare_isolated(source, found.path, found.options, progress or LoggedProgress())
    return manifests.load(found.path)


def if_prepared(request: Request) -> PreparedModel | None:
    """Return the prepared model if it exists, otherwise None; raise as `resolve`.

    A built-in model that has not been fetched is no error: the cache may be that of another user.
    """
    found = _find(request)
    if isinstance(found, PreparedModel):
        return found
    if not _fault(found):
        return manifests.load(found.path)
    if os.path.lexists(zoo.location(request.path, request.cache_dir)):
        locate(request.path, request.base_dir, request.cache_dir)
    return None


def _find(request: Request) -> PreparedModel | _Cached:
    """Return the requested model itself if it is prepared as requested, or its cached file."""
    labels = tuple(request.labels) if request.labels else None
    options = PrepareOptions(
        input_size=request.input_size, labels=labels, precision=request.precision
    )
    builtin = zoo.BUILTINS.get(request.path)
    if builtin is not None:
        source = zoo.location(request.path, request.cache_dir)
        digest, adopted = builtin.digest, False
    else:
        source = locate(request.path, request.base_dir, request.cache_dir)
        digest, adopted, manifest = _examine(source)
        if manifest is not None and _is_wanted(manifest, options):
            return PreparedModel(source, manifest, digest)
    if request.precision is None and not adopted:
        options = dataclasses.replace(options, precision=request.precision_of_exports)
    seal = about(digest, options)
    folder = request.cache_dir / "prepared"
    durable.require_access(folder)
    path = folder / f"{source.stem}-{seal['key']}.onnx"
    return _Cached(path, options, seal)


def _examine(source: Path) -> tuple[str, bool, Manifest | None]:
    """Return a model's digest, whether it has the tensors of a prepared one, and its manifest."""
    with files.naming(source):
        model, digest = files.load(source)
        if any(entry.key == sealed.KEY for entry in model.metadata_props):
            sealed.read(source)
        return digest, contract.is_met_by(model), manifests.find(model)


def _fault(cached: _Cached) -> str | None:
    """Return why the cached file can't be used, as a sentence fragment, or None if it can."""
    try:
        _, found = sealed.read(cached.path)
    except ModelError as error:
        return str(error)
    return None if found == cached.seal else "it was prepared from or as something else"


def locate(path: str, base_dir: Path, cache_dir: Path) -> Path:
    """Return the file of a built-in name, or of a path relative to `base_dir`.

    Raises
    ------
    ModelError
        The built-in model has not been fetched, or a bare word names neither a model nor a file.
    StartupError
        The built-in model is damaged, or its folder can't be read.
    """
    if path in zoo.BUILTINS:
        return zoo.fetched(path, cache_dir)
    found = base_dir / Path(path).expanduser()
    if path == found.stem and not os.path.lexists(found):
        raise ModelError(f"{found}: no such model file; built in are {', '.join(zoo.BUILTINS)}")
    return found


def _is_wanted(manifest: Manifest, options: PrepareOptions) -> bool:
    return all(
        getattr(options, name) in (None, getattr(manifest, name))
        for name in ("input_size", "labels", "precision")
    )

"""Model files on disk: read whole, hashed, written atomically."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from daemon.errors import ModelError, StartupError

_CHECKPOINTS = (b"PK\x03\x04", b"\x80\x02")  # a zip archive, and a pickle as before torch 1.6


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put `path` in front of every `ModelError` raised inside."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def read(path: Path) -> bytes:
    """Return the content of `path`, or raise a `ModelError` without its name."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError("no such model file") from None
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror}") from None


def load(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read an ONNX file once; give the model and its SHA-256, external weights included.

    Raises
    ------
    ModelError
        The file is missing, unreadable, not ONNX or cut short; without the file's name.
    """
    content = read(path)
    if content.startswith(_CHECKPOINTS):
        raise ModelError(
            "a PyTorch checkpoint, not an ONNX file: make one of it with `centernetd export`"
        )
    digest = hashlib.sha256(content)
    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        raise ModelError("not an ONNX file, or cut short") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError("not an ONNX file: it holds no network")
    external = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"its external weights can't be read: {first_line(error)}") from None
    for tensor in external:
        digest.update(tensor.raw_data)
    return model, digest.hexdigest()


def write(content: bytes, path: Path) -> None:
    """Write `content` to `path`, as `replacing`."""
    with replacing(path) as part:
        part.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write, which becomes `path` at the end if nothing is raised inside.

    So a reader sees the old file or the whole new one.

    Raises
    ------
    StartupError
        It can't be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise StartupError(f"{path}: can't be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for a sentence of ours to end with."""
    return str(error).strip().partition("\n")[0]

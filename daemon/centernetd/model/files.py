"""Reading and hashing model files."""

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)

from centernetd.config import regular
from centernetd.errors import ModelError

MAX_MODEL_SIZE = 2**31 - 1  # bytes; protobuf's limit

_CHECKPOINTS = (b"PK\x03\x04", b"\x80\x02")  # zip archive, or pickle as before torch 1.6


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Prefix every `ModelError` raised inside with `path`."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def read(path: Path, limit: int = MAX_MODEL_SIZE) -> bytes:
    """Return the content of `path`, or raise a `ModelError` that doesn't name it."""
    try:
        return regular.read(path, limit)
    except FileNotFoundError:
        raise ModelError("no such model file") from None
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror}") from None


def load(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read an ONNX file once; return the model and its SHA-256, including external weights.

    Raises
    ------
    ModelError
        The file is missing, unreadable, truncated or not ONNX; the message doesn't name it.
    """
    content = read(path)
    if content.startswith(_CHECKPOINTS):
        raise ModelError(
            "a PyTorch checkpoint, not an ONNX file: convert it with `centernetd export`"
        )
    digest = hashlib.sha256(content)
    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        raise ModelError("not an ONNX file, or truncated") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError("not an ONNX file: it contains no network")
    external = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    try:
        _refuse_endless(external, path.parent)
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"its external weights can't be read: {first_line(error)}") from None
    for tensor in external:
        digest.update(tensor.raw_data)
    return model, digest.hexdigest()


def _refuse_endless(tensors: Sequence[onnx.TensorProto], folder: Path) -> None:
    """Raise an `OSError` if external weights are too large or not in regular files."""
    infos = [ExternalDataInfo(tensor) for tensor in tensors]
    sizes = [regular.size_of(folder / info.location, regular.MAX_SIZE) for info in infos]
    if sum(info.length or size for info, size in zip(infos, sizes, strict=True)) > MAX_MODEL_SIZE:
        raise OSError(errno.EFBIG, "they are larger than 2 GiB")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, to append to one of our own messages."""
    return str(error).strip().partition("\n")[0]

"""Files that end with a seal, which proves that a file is complete and the expected one.

A seal is a metadata entry of an ONNX model, so a sealed model is still a valid ONNX file. Other
kinds of file end with the same bytes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, StringStringEntryProto

from centernetd.config import regular
from centernetd.errors import ModelError
from centernetd.model import durable

About = Mapping[str, Any]

KEY = "centernetd.seal"
_MARK = StringStringEntryProto(key=KEY).SerializeToString()
_MAX_SEAL_SIZE = 2**20  # bytes of a seal
_DIGITS = 64  # of a SHA-256
_DAMAGED = "it is damaged or incomplete"


@contextmanager
def replacing(path: Path, about: About) -> Iterator[Path]:
    """Yield a file to write; seal it and move it to `path` as `durable.replacing` does.

    `about` is JSON-serializable and describes the content.

    Raises
    ------
    StartupError
        `path` can't be written.
    """
    with durable.replacing(path) as part:
        yield part
        content = part.read_bytes()
        with part.open("ab") as file:
            file.write(seal(content, json.dumps(about)))


def write(path: Path, content: bytes, about: About) -> None:
    """Write `content` and its seal to `path` like `replacing`, writable by the owner only."""
    with replacing(path, about) as part:
        part.touch(0o644)
        part.write_bytes(content)


def read(path: Path, judge: regular.Judge = lambda _found: None) -> tuple[bytes, About]:
    """Return the content of `path` without the seal, and the description stored in the seal.

    `judge` may reject the file by raising a `ModelError`.

    Raises
    ------
    ModelError
        Unreadable, or the seal doesn't match; a sentence fragment without the file name.
    """
    try:
        file = regular.read(path, regular.MAX_SIZE, judge)
    except FileNotFoundError:
        raise ModelError("there is no such file") from None
    except OSError as error:
        raise ModelError(f"it can't be read: {error.strerror}") from None
    entry = _entry(file)
    text: str = entry.value[:-_DIGITS]
    content = file[: -len(ModelProto(metadata_props=[entry]).SerializeToString())]
    if not file.endswith(seal(content, text)):
        raise ModelError(f"{_DAMAGED} (SHA-256 differs)")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise ModelError("its seal does not describe it")
    return content, about


def _entry(file: bytes) -> StringStringEntryProto:
    """Return the metadata entry at the end of a file that is its seal."""
    start = file.rfind(_MARK, -_MAX_SEAL_SIZE)
    with suppress(DecodeError, UnicodeDecodeError):
        entry = StringStringEntryProto()
        entry.ParseFromString(file[start:] if start >= 0 else b"")
        if isinstance(entry.value, str) and entry.value:  # bytes: not UTF-8
            return entry
    raise ModelError(f"{_DAMAGED} (its seal is missing)")


def seal(content: bytes, text: str) -> bytes:
    """Return a seal for `content` that carries the text `text`."""
    digest = hashlib.sha256(content)
    digest.update(text.encode())
    entry = StringStringEntryProto(key=KEY, value=text + digest.hexdigest())
    entry_bytes: bytes = ModelProto(metadata_props=[entry]).SerializeToString()
    return entry_bytes

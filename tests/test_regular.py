"""Other things in the place of a file: none of them blocks us, fills the memory or is followed."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from centernetd.commands.detect import read_image
from centernetd.config import load, regular, variables
from centernetd.errors import CenternetdError
from centernetd.model import files, labels

LIMIT = 1000


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/ptmx")


def folder(path: Path) -> None:
    path.mkdir()


def endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def memory(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # is regular, and of size 0


NO_FILES: dict[Callable[[Path], None], str] = {
    pipe: "it is not a regular file",
    bound_socket: "it is not a regular file",
    device: "it is not a regular file",
    terminal: "it is not a regular file",
    folder: "Is a directory",
    endless: "it is larger than ",
    memory: "Input/output error",
}


@pytest.fixture(params=NO_FILES, ids=lambda make: make.__name__)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Something that is no ordinary file, and why it isn't read."""
    path = tmp_path / "it"
    request.param(path)
    return path, NO_FILES[request.param]


def test_it_is_refused(made: tuple[Path, str]) -> None:
    path, reason = made
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the reason is compared below
        regular.read(path, LIMIT)
    assert str(refused.value.strerror).startswith(reason)


def configuration(path: Path) -> object:
    return load(path)


def camera(path: Path) -> object:
    base = path.parent / "etc"
    (base / "streams.d").mkdir(parents=True)
    (base / "config.yaml").write_text("version: 1\n")
    path.rename(base / "streams.d" / "gate.yaml")
    return load(base / "config.yaml")


def external_weights(path: Path) -> object:
    model = path.parent / "model.onnx"
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=path.name))
    node = onnx.helper.make_node("Identity", ["w"], ["out"])
    graph = onnx.helper.make_graph([node], "g", [], [], [tensor])
    model.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return files.load(model)


READERS = [configuration, camera, labels.read, files.load, external_weights, read_image]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_every_reader_gives_the_reason(
    read: Callable[[Path], object], made: tuple[Path, str]
) -> None:
    path, reason = made
    if read is read_image and path.is_dir():
        reason = "contains no image"
    if read is external_weights and reason == NO_FILES[memory]:
        reason = "it is a symbolic link"  # which onnx refuses, before it reads
    with pytest.raises(CenternetdError, match=f"(?i){reason}"):
        read(path)


def test_a_credential_is_a_short_file(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reason = made
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    with pytest.raises(ValueError, match=reason):
        variables.expand("${it}")


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ordinary = tmp_path / "it", tmp_path / "ordinary"
    ordinary.write_text("content")
    os.mkfifo(path)
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self: stat(ordinary if self == path else self))
    with pytest.raises(OSError, match="it is not a regular file"):
        regular.read(path, LIMIT)


def test_a_device_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> int:
        raise AssertionError("a watchdog would bite now")

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(OSError, match="it is not a regular file"):
        regular.read(Path("/dev/null"), LIMIT)


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_file_up_to_the_limit_is_read_whole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"x" * size)
    assert regular.read(path, LIMIT) == b"x" * size
    assert regular.size_of(path, LIMIT) == size


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"x" * (LIMIT + 1))
    for read in (regular.read, regular.size_of):
        with pytest.raises(OSError, match="it is larger than "):
            read(path, LIMIT)


def test_a_file_that_does_not_know_its_size_is_read_up_to_the_limit() -> None:
    status = Path("/proc/self/status")
    assert regular.read(status, 65536).startswith(b"Name:")
    with pytest.raises(OSError, match="it is larger than "):
        regular.read(status, 100)


def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    """The limit is far above what this process may have: it is the size that is looked at."""
    path = tmp_path / "it"
    endless(path)
    code = (
        "import resource, sys; from pathlib import Path; from centernetd.config import regular\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\n"
        "try: regular.read(Path(sys.argv[1]), 2**32)\n"
        "except OSError as error: print(error.strerror)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "it is larger than 4096 MiB\n"


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "read pipe", "folder", "socket"])
@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
def test_nothing_but_a_file_is_opened_and_nothing_blocks(
    tmp_path: Path, kind: str, mode: Literal["rb", "r+b", "ab"]
) -> None:
    path, outside = tmp_path / "path", tmp_path / "outside"
    outside.write_bytes(b"untouched")
    with ExitStack() as kept:
        if kind in ("link", "dangling"):
            path.symlink_to(outside if kind == "link" else tmp_path / "none")
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            listening = kept.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(os.path.relpath(path))
        else:
            os.mkfifo(path)
            if kind == "read pipe":
                reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                kept.callback(os.close, reader)
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            regular.open_regular(path, mode)
    assert outside.read_bytes() == b"untouched"
    assert not (tmp_path / "none").exists()

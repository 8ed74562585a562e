"""What a power cut, a file system check or a hand may make of a file in the cache."""

import os
from collections.abc import Callable
from pathlib import Path

import onnx

from centernetd.model import sealed
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, models

Damage = Callable[[Path], None]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def holed(path: Path) -> None:
    """Lose a page of weights, as a power cut does; the result is an ONNX model that runs."""
    file = bytearray(path.read_bytes())
    weights = max(onnx.load(path).graph.initializer, key=lambda tensor: len(tensor.raw_data))
    at = file.index(weights.raw_data)
    file[at : at + len(weights.raw_data)] = bytes(len(weights.raw_data))
    path.write_bytes(file)
    onnx.checker.check_model(path)


def of_another_model(path: Path) -> None:
    other = exports.write(models.squares((64, 64), activated=True), path.parent / "other.raw.onnx")
    prepare(other, path, PrepareOptions(precision="float32"))
    other.unlink()


def unsealed(path: Path) -> None:
    path.write_bytes(sealed.read(path)[0])


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "lost+found").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nonexistent")


def unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/mem")


ANY: list[Damage] = [empty, cut, unsealed, a_folder, a_pipe, a_link_to_nothing, unreadable]
OF_MODELS: list[Damage] = [*ANY, holed, of_another_model]

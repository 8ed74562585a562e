"""What this machine has for running centernetd, and what is missing."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from centernetd.bench.clip import Clip
from centernetd.capture.decoding import try_gpu
from centernetd.capture.open import open_stream
from centernetd.commands.probe import disk_of
from centernetd.config import SourceUri, StreamConfig, cache_dir, state_dir
from centernetd.config.sections import Decode
from centernetd.cuda import Device, Letterbox
from centernetd.doctor.finding import Finding, Level
from centernetd.doctor.hardware import hardware
from centernetd.errors import (
    CenternetdError,
    EngineError,
    SinkError,
    SourceError,
    StartupError,
)
from centernetd.inference.engines import choose_backend
from centernetd.model import durable, zoo
from centernetd.plan import Binding, Gpu, load_binding, load_plan

ROOT = Path("/")
_TIMEOUT = 5.0  # seconds for systemctl, and for reading a tiny file
_SIDE = 256  # pixels; NVIDIA's encoders reject less than about 150
_FFMPEG = "pip install --force-reinstall av"

# Module, distributions that may provide it, and install command, empty for our own dependencies.
_PACKAGES = (
    ("av", ("av",), ""),
    ("cv2", ("opencv-python-headless", "opencv-python"), ""),
    ("onnx", ("onnx",), ""),
    ("onnxruntime", ("onnxruntime-gpu", "onnxruntime"), ""),
    ("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "pip install 'centernetd[gpu]'"),
    ("tensorrt_rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx"), "pip install 'centernetd[rtx]'"),
    ("cuda.bindings", ("cuda-python", "cuda-bindings"), "pip install 'centernetd[gpu]'"),
)


def examine(root: Path = ROOT) -> Iterator[Finding]:
    """Yield a finding for each relevant component, hardware looked up under ``root``."""
    yield python()
    yield from hardware(root)
    for module, distributions, install in _PACKAGES:
        yield _package(module, distributions, install)
    yield _engine()
    yield from _codecs()
    yield from _cache(cache_dir())
    yield _state_folder()
    yield _systemd(root)
    yield _documentation()


def python() -> Finding:
    """Return which Python this is and, if it can do without its lock, whether it does."""
    found = f"{platform.python_version()} on {platform.platform()}"
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return Finding("python", Level.OK, found)
    if sys._is_gil_enabled():  # type: ignore[attr-defined]
        free = f"{found}, free-threaded, but its lock is on, as a package asked for it"
        return Finding("python", Level.NOTE, free, "set PYTHON_GIL=0")
    return Finding("python", Level.OK, f"{found}, free-threaded")


def _package(module: str, distributions: tuple[str, ...], install: str) -> Finding:
    """Look for a package without importing it, which could load a driver."""
    if not _is_installed(module):
        if install:
            return Finding(module, Level.NOTE, "not installed; only a GPU needs it", install)
        mend = f"pip install --force-reinstall {distributions[-1]}"
        return Finding(module, Level.MISSING, "not installed", mend)
    installed = filter(None, map(_version_of, distributions))
    return Finding(module, Level.OK, next(installed, "installed, by the system"))


def _version_of(distribution: str) -> str | None:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return None


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # raised if the parent package is missing
        return False


def _engine() -> Finding:
    """Return which engine ``engine.backend: auto`` selects here, or why it can't."""
    try:
        backend = choose_backend("auto")
    except EngineError as error:
        return Finding("engine", Level.MISSING, str(error))
    return Finding("engine", Level.OK, f"{backend.name}, because {backend.reason}")


def _codecs() -> Iterator[Finding]:
    """Encode a frame with each encoder; decode x264's output in software and on the GPU."""
    with tempfile.TemporaryDirectory(prefix="centernetd-doctor-") as folder:
        clip = Path(folder) / "x264.mp4"
        problem = _try_encoder("libx264", clip)
        yield _codec("encoder libx264", problem, Level.MISSING, _FFMPEG)
        broken = problem or _try_decoder(clip, "cpu")
        yield _codec("decoder h264", broken, Level.MISSING, _FFMPEG)
        problem = problem or try_gpu(0) or _try_decoder(clip, "cuda")
        if problem:
            problem = f"not usable here: video is decoded on the CPU ({problem})"
        yield _codec("decoder h264 (cuda)", problem, Level.NOTE, "")
        if not problem:
            yield _codec("letterbox (cuda)", _try_letterbox(), Level.NOTE, "")
        problem = _try_encoder("h264_nvenc", Path(folder) / "nvenc.mp4")
        if problem:
            problem = "not usable here: recordings are encoded on the CPU"
        yield _codec("encoder h264_nvenc", problem, Level.NOTE, "")


def _try_letterbox() -> str | None:
    """Load the kernel for pictures that the GPU decoded; return the error, if any."""
    try:
        Device(0)
        Letterbox().close()
    except EngineError as error:
        return f"not usable here: pictures are letterboxed on the CPU ({error})"
    return None


def _codec(topic: str, problem: str | None, level: Level, mend: str) -> Finding:
    return Finding(topic, level, problem, mend) if problem else Finding(topic, Level.OK, "works")


def _try_encoder(encoder: str, path: Path) -> str | None:
    """Encode a black frame; return the error, if any."""
    black = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    try:
        with Clip(path, encoder, _SIDE, _SIDE, Fraction(1, 25)) as clip:
            clip.write(black, 0)
    except SinkError as error:
        return str(error)
    return None


def _try_decoder(path: Path, decoder: Decode) -> str | None:
    """Decode all of a file; return the error, if any."""
    stream = StreamConfig("doctor", SourceUri(str(path)), stall_timeout=_TIMEOUT, decode=decoder)
    try:
        source = open_stream(stream)
        try:
            pictures = sum(1 for _ in source)
        finally:
            source.close()
    except SourceError as error:
        return str(error)
    return None if pictures else "yields no picture"


def _cache(folder: Path) -> Iterator[Finding]:
    try:
        for each in ("models", "prepared", "plans"):
            durable.require_access(folder / each)
    except StartupError as error:
        yield Finding("cache folder", Level.MISSING, str(error))
    else:
        yield from _models(folder)
        yield from _plans(folder / "plans")


def _models(folder: Path) -> Iterator[Finding]:
    for name in zoo.BUILTINS:
        what, mend = f"model {name}", f"centernetd fetch {name}"
        path = zoo.location(name, folder)
        if not os.path.lexists(path):
            found = f"not in {folder}; needed if the configuration names it"
            yield Finding(what, Level.NOTE, found, mend)
        elif (flaw := zoo.flaw_of(name, folder)) is not None:
            yield Finding(what, Level.MISSING, f"{path} can't be used: {flaw}", mend)
        else:
            yield Finding(what, Level.OK, str(path))


def _plans(folder: Path) -> Iterator[Finding]:
    """Yield whether each plan in ``folder`` will be used; nothing if TensorRT is not installed."""
    try:
        binding = load_binding()
    except CenternetdError:
        return
    found = sorted(folder.glob("*.plan"))
    if not found:
        yield Finding("plans", Level.NOTE, f"none in {folder}: the first start builds one")
        return
    try:
        gpu = Gpu.find(0) if binding.plans_fit_one_gpu else None
    except CenternetdError as error:
        yield Finding("plans", Level.NOTE, f"{len(found)} in {folder}, not judged: {error}")
        return
    for plan in found:
        yield _plan(plan, binding, gpu)


def _plan(plan: Path, binding: Binding, gpu: Gpu | None) -> Finding:
    topic = f"plan {plan.stem}"
    try:
        fits = load_plan(plan, binding, gpu).fingerprint
    except CenternetdError as error:
        return Finding(topic, Level.NOTE, f"{error}, or leave it to the next start")
    return Finding(topic, Level.OK, f"{fits.precision}, batches of {fits.profile}")


def _state_folder() -> Finding:
    disk = disk_of(state_dir())
    if not disk.writable:
        mend = "set storage.root to a folder that can be"
        return Finding("state folder", Level.MISSING, f"{disk.folder} can't be written to", mend)
    return Finding("state folder", Level.OK, f"{disk.folder}, {disk.free / 1e9:.1f} GB free")


def _systemd(root: Path) -> Finding:
    if not (root / "run/systemd/system").is_dir():
        return Finding("systemd", Level.NOTE, "not running: nothing restarts centernetd")
    return Finding("systemd", Level.OK, _systemd_version() or "running")


def _documentation() -> Finding:
    """Return where the documentation is: in a checkout, or where pip installs it."""
    checkout = Path(__file__).resolve().parents[3] / "docs"
    installed = Path(sys.prefix) / "share" / "centernetd" / "docs"
    for folder in (checkout, installed):
        if (folder / "operations.md").is_file():
            found = f"{folder}/operations.md has a list by symptom"
            return Finding("documentation", Level.OK, found)
    return Finding("documentation", Level.NOTE, "not installed; docs/operations.md of the source")


def _systemd_version() -> str | None:
    command = shutil.which("systemctl")
    if command is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [command, "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0] or None

"""The CPU, GPUs and cameras of this machine."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from centernetd.cuda import has_nvidia_device
from centernetd.doctor.finding import Finding, Level

_TIMEOUT = 10.0  # seconds for nvidia-smi, which hangs if the driver does
_NVIDIA, _DISPLAY_CLASS = "0x10de", "0x03"  # PCI identifiers


def hardware(root: Path) -> Iterator[Finding]:
    """Examine the hardware through the /proc, /sys and /dev under ``root``."""
    yield processor(root)
    yield from gpu(root)
    yield cameras(root)


def processor(root: Path) -> Finding:
    """Report the CPU and the cores available to this process."""
    cores = len(os.sched_getaffinity(0))
    return Finding("processor", Level.OK, f"{_processor_name(root)}, {cores} cores")


def gpu(root: Path) -> Iterator[Finding]:
    """Report the NVIDIA GPUs and their driver."""
    driver = _driver_version(root)
    names = _ask_nvidia_smi() or _names_by_driver(root)
    if jetson := _jetson(root):
        names = [jetson]
        found = "PyAV for this machine decodes and encodes on the CPU only"
        yield Finding("video engine", Level.NOTE, found)
    if names or driver or has_nvidia_device():
        yield Finding("gpu", Level.OK, "; ".join(names) or "NVIDIA, of unknown name")
        yield Finding("gpu driver", Level.OK, driver or "of unknown version")
    elif _has_nvidia_card(root):
        yield Finding("gpu", Level.OK, "an NVIDIA card")
        mend = "sudo apt install nvidia-driver (Ubuntu: sudo ubuntu-drivers install), then reboot"
        yield Finding("gpu driver", Level.NOTE, "not loaded", mend)
    else:
        yield Finding("gpu", Level.NOTE, "no NVIDIA GPU: the network runs on the CPU")


def cameras(root: Path) -> Finding:
    """Report the V4L2 cameras, by the names that stay the same when replugged."""
    named = sorted((root / "dev/v4l/by-id").glob("*-index0"))
    devices = named or sorted((root / "dev").glob("video*"))
    if not devices:
        return Finding("cameras", Level.NOTE, "no V4L2 camera")
    shown = ", ".join(f"v4l2:/{device.relative_to(root)}" for device in devices)
    if all(os.access(device, os.R_OK | os.W_OK) for device in devices):
        return Finding("cameras", Level.OK, shown)
    mend = "sudo usermod -aG video $USER, then log in again"
    return Finding("cameras", Level.NOTE, f"{shown}; not all may be opened", mend)


def _processor_name(root: Path) -> str:
    match = re.search(r"^model name\s*: (.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return f"{match[1]} ({platform.machine()})" if match else platform.machine()


def _driver_version(root: Path) -> str | None:
    text = _text(root / "proc/driver/nvidia/version")
    match = re.search(r"^NVRM version: .*?\s(\d+\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return match[1] if match else None


def _names_by_driver(root: Path) -> Sequence[str]:
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    matches = (re.search(r"^Model:\s*(.+)$", _text(file), re.MULTILINE) for file in files)
    return [match[1] for match in matches if match]


def _ask_nvidia_smi() -> Sequence[str]:
    """Return nvidia-smi's name, memory and compute capability of each GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = "--query-gpu=name,memory.total,compute_cap"
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [command, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    fields = [line.split(", ") for line in done.stdout.splitlines()]
    return [f"{f[0]}, {f[1]}, compute capability {f[2]}" for f in fields if len(f) == 3]


def _jetson(root: Path) -> str | None:
    model = _text(root / "proc/device-tree/model").rstrip("\0\n")
    return model if "Jetson" in model else None


def _has_nvidia_card(root: Path) -> bool:
    return any(
        _text(card / "vendor").strip() == _NVIDIA
        and _text(card / "class").startswith(_DISPLAY_CLASS)
        for card in (root / "sys/bus/pci/devices").glob("*")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""

"""A Debian of its own, booted in a container, in which the walk is taken."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.tools import tool

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "systemd"
OUT = CACHE / "out"
SUITE, PYTHON, MIRROR = "bookworm", "3.11", "http://deb.debian.org/debian"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "iproute2", "procps"),
    *("python3", "python3-venv", "prometheus"),
)
LONGEST_WALK = 900  # seconds

_WALK = """[Unit]
Description=The walk
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=exec
WorkingDirectory=/walk
ExecStart=/usr/bin/python3 -u -m inside {manual}
StandardOutput=file:/out/walk.txt
StandardError=inherit
"""


def debian() -> Path:
    """Return a fresh root of Debian; what it is copied from is made once and kept."""
    key = hashlib.sha256(repr((SUITE, PACKAGES)).encode()).hexdigest()[:8]
    base, root = CACHE / f"{SUITE}-{key}", CACHE / "root"
    if not base.exists():
        part = base.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        packages = ",".join(PACKAGES)
        _run(tool("mmdebstrap"), "--quiet", "--mode=root", f"--include={packages}", "--variant=apt",
             SUITE, str(part), MIRROR)  # fmt: skip
        part.rename(base)
    shutil.rmtree(root, ignore_errors=True)
    _run("cp", "-a", str(base), str(root))
    return root


def take_walk(root: Path, wheelhouse: Path, out: Path) -> None:
    """Boot ``root`` without network, take the walk in it, and power it off."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    stick = f"/media/usb/{wheelhouse.name}"
    wants = root / "etc/systemd/system/multi-user.target.wants"
    unit = root / "etc/systemd/system/walk.service"
    unit.write_text(_WALK.format(manual=f"{stick}/docs/operations.md"))
    (wants / unit.name).symlink_to(f"../{unit.name}")
    _run(
        *(tool("systemd-nspawn"), "--quiet", f"--directory={root}", "--boot"),
        *("--register=no", "--keep-unit", "--private-network", "--link-journal=no"),
        f"--bind={out}:/out",
        f"--bind-ro={wheelhouse}:{stick}",
        f"--bind-ro={Path(__file__).parent}:/walk",
    )


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=LONGEST_WALK
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"

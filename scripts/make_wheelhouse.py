"""Gather all that an installation without network needs, for this machine or another.

``python -m scripts.make_wheelhouse --python 3.12 --arch aarch64 dist`` makes a folder in dist
with the wheels that constraints.txt pins, our own, the built-in model's, and the files that
deploy/setup.sh installs. pip evaluates markers such as ``python_version < "3.11"`` for its own
Python and not for the target's, so this script evaluates them.
"""

import argparse
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from centernetd.model.zoo import BUILTINS
from centernetd.prepare import fetch

ROOT = Path(__file__).resolve().parents[1]
KIT = ("CHANGELOG.md", "LICENSE", "assets/demo.mp4", "config.yaml", "constraints.txt")
FOLDERS = ("deploy", "docs", "systemd")
NEWEST_GLIBC = 28  # 2.28: Debian 10, Ubuntu 20.04, RHEL 8 and later
PURE_SOURCE = {"tensorrt-rtx-cu13"}  # published without a wheel; its dependencies have some
OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True)
class Target:
    """The machine to install on: its Python, such as 3.12, and its architecture."""

    python: str
    arch: str

    @property
    def environment(self) -> Mapping[str, str]:
        """Marker environment of the target (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def options(self) -> list[str]:
        """Options for pip to download for the target (PEP 600)."""
        oldest = OLDEST_GLIBC[self.arch]
        tags = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, oldest - 1, -1)]
        tags += ["manylinux2014"] + ["manylinux2010", "manylinux1"] * (self.arch == "x86_64")
        options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}"]
        return options + [f"--platform={tag}_{self.arch}" for tag in tags]

    def wants(self, requirement: Requirement, extras: Iterable[str] = ()) -> bool:
        """Return whether ``requirement`` applies there, for a package with ``extras``."""
        marker = requirement.marker
        return marker is None or any(
            marker.evaluate({**self.environment, "extra": extra}) for extra in ("", *extras)
        )


def pins(target: Target) -> dict[str, str]:
    """Return the version constraints.txt pins for each package on ``target``."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier)
        for requirement in requirements
        if target.wants(requirement)
    }


def gather(target: Target, extras: Sequence[str], wheels: Path) -> None:
    """Build our wheel and download its direct and indirect dependencies for ``target``."""
    build_own(wheels)
    pinned, there = pins(target), {"centernetd"}
    latest: Mapping[str, Iterable[str]] = {"centernetd": extras}
    while latest:
        needed: dict[str, Requirement] = {
            canonicalize_name(found.name): found
            for found in requirements(target, latest, wheels)
            if canonicalize_name(found.name) not in there
        }
        versions = {name: pinned.get(name, str(it.specifier)) for name, it in needed.items()}
        download(target, versions, wheels)
        latest = {name: found.extras for name, found in needed.items()}
        there |= needed.keys()


def build_own(wheels: Path) -> None:
    """Build our wheel from a copy, so that leftovers of old builds are not packed."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "daemon", Path(folder, "daemon"))
        for name in ("LICENSE", "README.md", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        pip("wheel", "--no-deps", f"--wheel-dir={wheels}", folder)


def download(target: Target, versions: Mapping[str, str], wheels: Path) -> None:
    """Download the wheels of these package versions for ``target``."""
    ready = [name + wanted for name, wanted in versions.items() if name not in PURE_SOURCE]
    if ready:
        pip("download", "--no-deps", f"--dest={wheels}", *target.options, *ready)
    for name in PURE_SOURCE & versions.keys():
        pip("wheel", "--no-deps", f"--wheel-dir={wheels}", name + versions[name])


def requirements(
    target: Target, packages: Mapping[str, Iterable[str]], wheels: Path
) -> Iterator[Requirement]:
    """Yield the requirements on ``target`` of the wheels of ``packages``, each with its extras."""
    for wheel in wheels.glob("*.whl"):
        name = canonicalize_name(wheel.name.split("-")[0])
        if name in packages:
            for line in metadata(wheel).get_all("Requires-Dist") or ():
                requirement = Requirement(line)
                if target.wants(requirement, packages[name]):
                    yield requirement


def metadata(wheel: Path) -> Message:
    """Return the core metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def pip(command: str, *arguments: str) -> None:
    """Run pip, or exit; pip has printed the error itself."""
    if subprocess.run([sys.executable, "-m", "pip", command, "--quiet", *arguments]).returncode:
        raise SystemExit(1)


def add_models(names: Iterable[str], folder: Path) -> None:
    """Add built-in models as `fetch` stores them; their origin is printed."""
    for name in names:
        goal = folder / "models" / f"{name}.onnx"
        goal.parent.mkdir(exist_ok=True)
        shutil.copyfile(fetch.fetch(name, ROOT / ".cache"), goal)
        print(f"{name}: {BUILTINS[name].origin}", file=sys.stderr)


def add_kit(target: Target, folder: Path) -> None:
    """Add the files that deploy/setup.sh installs, the target's name, and all checksums."""
    for name in KIT + FOLDERS:
        source, goal = ROOT / name, folder / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, goal) if source.is_dir() else shutil.copy2(source, goal)
    (folder / "TARGET").write_text(f"{target.python} {target.arch}\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    lines = (f"{s}  {path.relative_to(folder)}\n" for s, path in zip(sums, files, strict=True))
    (folder / "SHA256SUMS").write_text("".join(lines))


def version_of(python: str) -> str:
    """Return a version such as 3.12 unchanged, or that of a program such as python3.12."""
    if re.fullmatch(r"3\.\d+", python):
        return python
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [python, "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    """Create the folder, replacing an existing one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="3.12, or a program")
    parser.add_argument("--arch", default=platform.machine(), choices=OLDEST_GLIBC)
    parser.add_argument("--extras", default="", help="rtx, cuda12 or cuda13; several with commas")
    parser.add_argument("--models", default="", help="more built-in models, as in --models coco")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    target = Target(version_of(options.python), options.arch)
    folder = options.folder / f"centernetd-{version('centernetd')}-py{target.python}-{target.arch}"
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    gather(target, options.extras.split(","), wheels)
    fetch.download("centerface", wheels)
    add_models(options.models.split(), folder)
    add_kit(target, folder)
    print(folder)


if __name__ == "__main__":
    main()

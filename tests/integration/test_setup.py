"""What the installer refuses, before it has written anything; tests/systemd installs for real."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[2] / "deploy" / "setup.sh"
HERE = "{}.{}".format(*sys.version_info) + f" {os.uname().machine}"


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """A folder as `make wheelhouse` makes them, with one file in it."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    (folder / "wheel").write_text("whole")
    digest = hashlib.sha256(b"whole").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  wheel\n")
    (folder / "TARGET").write_text(f"{HERE}\n")
    return folder


def refusal(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """Run the installer; returns its last line of output."""
    system = tmp_path / "system"
    done = subprocess.run(
        ["sh", SETUP, *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environment, "DESTDIR": str(system)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout
    assert not system.exists(), "nothing was written"
    return done.stderr.splitlines()[-1]


def test_no_command(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "setup.sh: give install, rollback or uninstall"


def test_no_python(tmp_path: Path) -> None:
    assert refusal(tmp_path, "install", PYTHON="/nowhere/python").endswith("no /nowhere/python")


def test_something_else_than_python(tmp_path: Path) -> None:
    message = refusal(tmp_path, "install", PYTHON="/bin/false")
    assert "/bin/false is no Python 3.10 or later" in message


def test_a_damaged_wheelhouse(tmp_path: Path, wheelhouse: Path) -> None:
    (wheelhouse / "wheel").write_text("torn")
    message = refusal(tmp_path, "install", WHEELHOUSE=str(wheelhouse))
    assert message.endswith("is damaged, or none: copy it again")


def test_a_wheelhouse_for_another_machine(tmp_path: Path, wheelhouse: Path) -> None:
    (wheelhouse / "TARGET").write_text("3.9 sparc64\n")
    message = refusal(tmp_path, "install", WHEELHOUSE=str(wheelhouse))
    python, arch = HERE.split()
    assert f"is for Python 3.9 on sparc64, and {sys.executable} is {HERE}" in message
    assert f"make wheelhouse PYTHON={python} ARCH={arch}" in message


@pytest.mark.skipif(
    not os.path.realpath(sys.executable).startswith(("/home/", "/root/")),
    reason="this Python is in no home folder",
)
def test_a_python_that_the_service_could_not_see(tmp_path: Path, wheelhouse: Path) -> None:
    message = refusal(tmp_path, "install", WHEELHOUSE=str(wheelhouse))
    assert message.endswith("is in a home folder, which the service can't see")


def test_going_back_to_nothing(tmp_path: Path) -> None:
    assert "there is no version before this one" in refusal(tmp_path, "rollback")

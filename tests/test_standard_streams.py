"""Standard streams that are closed or full, and a working directory that is gone."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commandline import clip, configuration, squares_model


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    source = clip(folder / "clip.mp4")
    return configuration(folder, squares_model(folder), gate={"source": str(source)})


def shell(folder: Path, command: str) -> "subprocess.CompletedProcess[str]":
    program = f"{shlex.quote(sys.executable)} -m centernetd"
    line = command.replace("centernetd", f"{program}")
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["check -c {}", "--version", "--help", "run -c {}"])
def test_a_full_standard_output_is_reported(
    tmp_path: Path, config: Path, command: str, unbuffered: str
) -> None:
    line = f"PYTHONUNBUFFERED={unbuffered} centernetd {command.format(config)} >/dev/full"
    done = shell(tmp_path, line)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "centernetd: standard output can't be written: No space left on device"


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_none(tmp_path: Path, config: Path, closed: str) -> None:
    done = shell(tmp_path, f"centernetd run -c {config} {closed}")
    assert done.returncode == 0, done.stderr
    recording = next((config.parent / "out").glob("gate*.mp4")).read_bytes()
    assert b"captured" not in recording, "what is printed went into a file"


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_refusal_that_nobody_can_read_keeps_its_code(tmp_path: Path, stderr: str) -> None:
    assert shell(tmp_path, f"centernetd check -c nope.yaml {stderr}").returncode == 78


def test_a_log_that_nobody_can_read_changes_nothing(tmp_path: Path, config: Path) -> None:
    done = shell(tmp_path, f"centernetd run -c {config} 2>/dev/full")
    assert done.returncode == 0
    assert "gate: 10 captured = 10 written" in done.stdout


def test_a_reader_that_has_enough_is_no_fault(tmp_path: Path, config: Path) -> None:
    assert shell(tmp_path, f"centernetd check -c {config} | true").stderr == ""


@pytest.mark.parametrize("command", ["run x.mp4", "detect x.png", "check", "status"])
def test_a_working_directory_that_is_gone_is_reported(tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(gone, f"rmdir {gone}; centernetd {command}")
    assert done.returncode == 1
    sentence = "the working directory can't be used (No such file or directory): change to another"
    assert done.stderr == f"centernetd: {sentence}\n"

"""The unit files, as systemd's own tools judge them: they must be installed."""

import difflib
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from centernetd.errors import ConfigError, ModelError
from centernetd.service.health import STALL_LIMIT
from tests.tools import tool

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
UNIT = SYSTEMD / "centernetd.service"
INSTANCE = SYSTEMD / "centernetd@.service"
DROP_INS = ("jetson.conf", "memory-deny-write-execute.conf", "memory-max.conf")
PROGRAM = "/opt/centernetd/bin/centernetd"
LARGEST_EXPOSURE = 2.0
RESTART_PROMISE = 30
STOP_PROMISE = 5


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def seconds(name: str) -> float:
    (value,) = settings(name)
    return float(value)


def installed(folder: Path, text: str | None = None, name: str = UNIT.name) -> Path:
    """Write a unit as if its program were there: the checker looks for the executable."""
    unit = folder / name
    unit.write_text((text or UNIT.read_text("utf-8")).replace(PROGRAM, "/bin/true"))
    return unit


def drop_in(unit: Path, name: str) -> None:
    """Add a drop-in to ``unit``."""
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    (folder / name).write_text((SYSTEMD / name).read_text("utf-8"))


def run(command: Sequence[str | Path]) -> "subprocess.CompletedProcess[str]":
    program = tool(str(command[0]))
    return subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, check=False, timeout=60
    )


def verify(unit: Path) -> str:
    done = run(["systemd-analyze", "verify", "--man=no", unit])
    assert done.returncode == 0 or done.stderr, "systemd-analyze failed without a word"
    return done.stdout + done.stderr


def exposure(unit: Path) -> float:
    done = run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit])
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


def test_the_unit_is_clean(tmp_path: Path) -> None:
    assert verify(installed(tmp_path)) == ""


@pytest.mark.parametrize("line", ["WatchdogSeconds=20", "DeviceAllow=char-nvidia* everything"])
def test_the_checker_would_complain(tmp_path: Path, line: str) -> None:
    text = UNIT.read_text("utf-8").replace("Type=notify", f"Type=notify\n{line}")
    assert verify(installed(tmp_path, text)) != ""


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    assert exposure(installed(tmp_path)) <= LARGEST_EXPOSURE


def test_an_instance_is_clean_and_hardened(tmp_path: Path) -> None:
    unit = installed(tmp_path, INSTANCE.read_text("utf-8"), "centernetd@0.service")
    assert verify(unit) == ""
    assert exposure(unit) <= LARGEST_EXPOSURE


def test_an_instance_differs_in_nothing_but_its_places() -> None:
    one, many = UNIT.read_text("utf-8").splitlines(), INSTANCE.read_text("utf-8").splitlines()
    changed = [line for line in difflib.ndiff(one, many) if line[0] in "+-" and line[2] != "#"]
    assert changed == [
        "- Description=CenterNet detection on video streams",
        "+ Description=CenterNet detection on video streams (%i)",
        f"- ExecStart={PROGRAM} run -c /etc/centernetd/config.yaml",
        f"+ ExecStart={PROGRAM} run -c /etc/centernetd/%i/config.yaml",
        f"- ExecReload={PROGRAM} reload -c /etc/centernetd/config.yaml",
        f"+ ExecReload={PROGRAM} reload -c /etc/centernetd/%i/config.yaml",
        "+ Environment=INSTANCE=%i",
        "- StateDirectory=centernetd",
        "+ StateDirectory=centernetd-%i",
        "- ConfigurationDirectory=centernetd",
        "+ ConfigurationDirectory=centernetd/%i",
    ]


@pytest.mark.parametrize("name", DROP_INS)
def test_a_drop_in_is_clean_and_leaves_the_unit_hardened(name: str, tmp_path: Path) -> None:
    unit = installed(tmp_path)
    drop_in(unit, name)
    assert verify(unit) == ""
    assert exposure(unit) <= LARGEST_EXPOSURE


def test_one_drop_in_hardens_further(tmp_path: Path) -> None:
    unit = installed(tmp_path)
    before = exposure(unit)
    drop_in(unit, "memory-deny-write-execute.conf")
    assert exposure(unit) < before


def test_the_program_is_started_as_documented() -> None:
    assert settings("ExecStart") == [f"{PROGRAM} run -c /etc/centernetd/config.yaml"]
    assert settings("Type") == ["notify"]


def test_what_only_a_person_can_fix_is_not_restarted() -> None:
    assert settings("Restart") == ["on-failure"]
    (codes,) = settings("RestartPreventExitStatus")
    assert set(map(int, codes.split())) == {ConfigError.exit_code, ModelError.exit_code}


def test_the_promised_times_are_kept() -> None:
    noticed = STALL_LIMIT + seconds("WatchdogSec") + seconds("TimeoutAbortSec")
    assert noticed + seconds("RestartSec") < RESTART_PROMISE
    assert seconds("TimeoutStopSec") > STOP_PROMISE


def test_no_core_is_left_that_holds_passwords() -> None:
    assert settings("LimitCORE") == ["0"]


def test_the_program_forbids_cores_wherever_it_runs() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    if most == 0:
        pytest.skip("cores are forbidden here, whatever a program does")
    script = (
        "import resource, sys; sys.argv[1:] = ['--version']\n"
        f"resource.setrlimit(resource.RLIMIT_CORE, ({most}, {most}))\n"
        "from centernetd.__main__ import main\n"
        "try: main()\n"
        "finally: print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_every_group_is_made(tmp_path: Path) -> None:
    """A group the machine lacks fails the start with 216/GROUP, and no checker reports that."""
    (tmp_path / "etc").mkdir()
    done = run(["systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "centernetd.sysusers.conf"])
    assert done.returncode == 0, done.stderr
    made = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    (groups,) = settings("SupplementaryGroups")
    assert set(groups.split()) <= made


def test_the_folders_of_the_operator_are_made(tmp_path: Path) -> None:
    done = run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", SYSTEMD / "centernetd.tmpfiles.conf"]
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/centernetd/streams.d").is_dir()
    assert (tmp_path / "etc/centernetd/credentials").stat().st_mode & 0o077 == 0

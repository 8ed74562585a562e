"""The Ansible example's own check of a configuration, before it is put in its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commandline import CommandLine

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "ansible"


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


@pytest.fixture
def validate(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the playbook does with a configuration; returns the code."""
    (task,) = (task for task in load("playbook.yml")[0]["tasks"] if "Configure" in task["name"])
    (box,) = load("inventory.yml")["centernetd"]["hosts"].values()
    place = Path(task["ansible.builtin.copy"]["dest"]).parent
    for name, password in box["centernetd_credentials"].items():
        file = tmp_path / "credentials" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(password)
    for name, value in task["environment"].items():
        monkeypatch.setenv(name, value.replace(str(place), str(tmp_path)))

    def run(**changes: Any) -> int:
        config = tmp_path / "as ansible names it"
        config.write_text(yaml.safe_dump({**box["centernetd_config"], **changes}))
        line = task["ansible.builtin.copy"]["validate"].replace(str(place), str(tmp_path))
        program, *arguments = line.split()
        assert (program, arguments.count("%s")) == ("centernetd", 1)
        return cli(*(config if argument == "%s" else argument for argument in arguments)).code

    return run


def test_the_example_is_accepted(validate: Any) -> None:
    assert validate() == 0


@pytest.mark.parametrize("change", [{"sterams": {}}, {"streams": {}}, {"version": 2}])
def test_what_the_service_would_refuse_is_refused(validate: Any, change: dict[str, Any]) -> None:
    assert validate(**change) == 78

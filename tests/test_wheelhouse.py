"""What is gathered for another machine: versions and files by its Python, not by ours."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_wheelhouse.py"


@pytest.fixture(scope="module")
def script() -> Any:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("python", "package", "version"),
    [("3.10", "av", "==17.1.0"), ("3.12", "av", "==18.1.0"), ("3.10", "tomli", "==2.5.0")],
)
def test_versions_are_those_of_the_other_python(
    script: Any, python: str, package: str, version: str
) -> None:
    assert script["pins"](script["Target"](python, "aarch64"))[package] == version


def test_conditions_are_judged_for_the_other_machine(script: Any) -> None:
    target = script["Target"]("3.10", "aarch64")
    assert target.wants(Requirement("a ; python_version < '3.11'"))
    assert not target.wants(Requirement("a ; platform_machine == 'x86_64'"))
    assert not target.wants(Requirement("a ; extra == 'rtx'"))
    assert target.wants(Requirement("a ; extra == 'rtx'"), ["rtx"])


def test_wheels_for_older_systems_will_do(script: Any) -> None:
    options = script["Target"]("3.12", "aarch64").options
    platforms = [option.partition("=")[2] for option in options if "--platform" in option]
    assert platforms[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(platforms)
    assert all(platform.endswith("_aarch64") for platform in platforms)


def test_a_python_is_named_by_its_version_or_is_asked(script: Any) -> None:
    ours = "{}.{}".format(*sys.version_info)
    assert script["version_of"]("3.14") == "3.14"
    assert script["version_of"](sys.executable) == ours

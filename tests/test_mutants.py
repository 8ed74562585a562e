"""The faults that `make mutants` plants."""

from pathlib import Path

import pytest
import yaml

from scripts.mutants import EQUIVALENT, ROOT, TESTS, mutants_of

MODULE = '''\
"""Text."""

LIMIT: int = 2


def f(a: int, é: str = "é") -> bool:
    """Text."""
    if not é and a < LIMIT:
        return False
    for n in range(3):
        a += n * 2
        break
    return (
        a is not None
    )
'''


def test_faults_of_every_kind_are_planted_where_they_can_be(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(MODULE, "utf-8")
    found = list(mutants_of(str(path)))
    assert [(mutant.line, mutant.after) for mutant in found] == [
        (3, "LIMIT: int = 3"),
        (3, "LIMIT: int = 1"),
        (8, "if (not é or a < LIMIT):"),
        (8, "if True:"),
        (8, "if False:"),
        (8, "if (é) and a < LIMIT:"),
        (8, "if not é and (a <= LIMIT):"),
        (8, "if not é and (a >= LIMIT):"),
        (9, "return True"),
        (10, "for n in range(4):"),
        (10, "for n in range(2):"),
        (11, "pass"),
        (11, "a += (n / 2)"),
        (11, "a += n * 3"),
        (11, "a += n * 1"),
        (12, "pass"),
        (13, "return None"),
        (14, "(a is None)"),
    ]
    assert found[-1].before == "a is not None"
    for mutant in found:
        assert mutant.text != MODULE
        compile(mutant.text, "module.py", "exec")


@pytest.mark.parametrize("module", TESTS)
def test_modules_their_tests_and_equivalent_faults_exist(module: str) -> None:
    assert not [path for path in (module, *TESTS[module]) if not (ROOT / path).exists()]
    found = {mutant[:1] + mutant[2:4] for mutant in mutants_of(module)}
    entries = yaml.safe_load((ROOT / EQUIVALENT).read_text("utf-8"))
    assert {entry["file"] for entry in entries} <= TESTS.keys()
    equivalent = {(e["file"], e["line"], e["becomes"]) for e in entries if e["file"] == module}
    assert not equivalent - found, f"no such fault: see {EQUIVALENT}"

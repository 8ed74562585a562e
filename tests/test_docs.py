"""The documentation: what is generated is current, and what it points at is there."""

import re
import runpy
from pathlib import Path

import pytest

from centernetd.config import load
from tests.faults import report
from tests.faults.results import load as load_results

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("assets/*.md")])
PROJECT = ROOT / "pyproject.toml"
OURS = re.compile(r"`((?:daemon|tests|scripts|docs|systemd)/[\w/.-]+)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_the_metrics_reference_is_current() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_metrics_reference.py"))
    committed = script["PAGE"].read_text("utf-8")
    assert script["MARKER"] in committed
    assert committed == script["page"](committed), "run python -m scripts.make_metrics_reference"


def test_extras_that_are_named_exist() -> None:
    named = re.findall(r"`EXTRAS=(\w+)`", (ROOT / "docs" / "operations.md").read_text("utf-8"))
    assert len(named) == len(set(named)) == 4
    assert set(named) <= set(re.findall(r"^(\w+) = \[\"", PROJECT.read_text("utf-8"), re.M))


NEVER_CLAIMED = re.compile(
    r"anonymous|anonymi[sz]ed|gdpr.compliant|\bno faces?\b|provabl|irreversib|unrecogni[sz]able",
    re.I,
)
CLAIMED_IN = [
    *PAGES,
    ROOT / "config.yaml",
    *ROOT.glob("daemon/centernetd/**/*.py"),
    *ROOT.glob("scripts/*.py"),
]


def test_blur_promises_no_more_than_it_keeps() -> None:
    found = {path: NEVER_CLAIMED.findall(path.read_text("utf-8")) for path in CLAIMED_IN}
    assert not {path: words for path, words in found.items() if words}


def test_what_blur_is_stands_where_it_is_looked_for() -> None:
    text = " ".join((ROOT / "docs" / "security.md").read_text("utf-8").split())
    assert (
        "Blur is data minimisation, not anonymisation: it depends on a detector that misses faces. "
        "Where nobody may be recognisable, use masks or a box that only counts."
    ) in text


def test_the_layers_that_are_shown_are_those_of_the_import_contract() -> None:
    project = PROJECT.read_text("utf-8")
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    contract = re.search(r'type = "layers".*?\nlayers = \[\n(.*?)\]', project, re.S)
    shown = re.search(r"## The rooms\n.*?```text\n(.*?)```", page, re.S)
    assert contract is not None
    assert shown is not None
    rooms = [re.split(r"\s{2,}", line)[0] for line in shown[1].splitlines()]
    assert rooms == re.findall(r'"(.+?)"', contract[1])


def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_files_that_are_named_exist(page: Path) -> None:
    for name in OURS.findall(page.read_text("utf-8")):
        assert (ROOT / name).exists(), name


def test_configurations_that_are_shown_load(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_PASSWORD", "secret")
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.S)):
        if text.startswith("version: 1"):
            config = tmp_path / f"{number}.yaml"
            config.write_text(text)
            assert load(config).streams


def test_tests_that_are_named_exist() -> None:
    written = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for path in PAGES:
        for name in re.findall(r"`(test_\w+)`", path.read_text("utf-8")):
            assert f"def {name}(" in written, f"{path.name}: {name}"


def test_the_reliability_page_is_current() -> None:
    committed = report.PAGE.read_text("utf-8")
    assert report.MARKER in committed
    assert committed == report.page(committed, load_results(report.KEPT)), "run make faults"

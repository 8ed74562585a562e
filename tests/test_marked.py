"""The parts of a page that scripts write."""

from pathlib import Path

import pytest

from scripts import marked


@pytest.mark.parametrize("between", ["", "one\ntwo\n"])
def test_only_what_is_between_the_marks_changes(
    between: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- x: begin -->\n{between}<!-- x: end -->\n\nbehind\n")
    monkeypatch.setattr(marked, "_PAGE", page)
    assert marked.lines_of("x") == between.splitlines()
    marked.fill("x", ["three", "four"])
    assert page.read_text() == (
        "before\n<!-- x: begin -->\nthree\nfour\n<!-- x: end -->\n\nbehind\n"
    )
    with pytest.raises(SystemExit, match="the marks of y are missing"):
        marked.fill("y", [])


@pytest.mark.parametrize("name", ["zoo", "int8"])
def test_the_marks_are_there(name: str) -> None:
    assert marked.lines_of(name)

"""The parts of docs/models.md that scripts write, each between two marks."""

from collections.abc import Sequence
from pathlib import Path

_PAGE = Path(__file__).parents[1] / "docs" / "models.md"


def lines_of(name: str) -> list[str]:
    """Return the lines between the marks of ``name``."""
    return _parts(name)[1].splitlines()


def fill(name: str, lines: Sequence[str]) -> None:
    """Write ``lines`` between the marks of ``name``."""
    before, _, after = _parts(name)
    _PAGE.write_text("\n".join([before, *lines, after]), "utf-8")


def _parts(name: str) -> tuple[str, str, str]:
    """Split the page: up to the first mark, between the marks, and from the second on."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = _PAGE.read_text("utf-8").partition(begin)
    between, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{_PAGE}: the marks of {name} are missing")
    return before + begin, between.strip("\n"), end + after

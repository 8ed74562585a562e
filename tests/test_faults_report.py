"""The verdict on a promise, by the figures measured."""

from tests.faults.report import table
from tests.faults.results import Notebook


def verdicts(*rows: tuple[float, bool]) -> str:
    """Return the page's verdict on a promise of 2, for these figures, each enough or not."""
    notebook = Notebook()
    for number, (figure, enough) in enumerate(rows):
        notebook.note("memory", f"fault {number}", figure, "", enough)
    (line,) = (line for line in table(notebook.results).splitlines() if "memory stays" in line)
    return line.rpartition("  ")[2]


def test_a_promise_is_kept_only_if_it_was_tested_for_as_long_as_it_requires() -> None:
    assert verdicts((0.5, True)) == "kept"
    assert verdicts((0.5, True), (0.5, False)) == "kept"
    assert verdicts((0.5, False)) == "kept, as far as it was tested"
    assert verdicts((2.5, False)) == "**broken**"

"""The script that measures every architecture: its limits, and its table in docs/models.md."""

from dataclasses import astuple, replace
from pathlib import Path

import pytest

from centernetd.bench.pipeline import ModelTime
from scripts import make_zoo_table
from scripts.make_zoo_table import BEGIN, END, PAGE, Measured, Row
from tests.export.equality import Difference

GOOD = Measured(10, 1e9, 30.0, 3.9e9, ModelTime(0.2, 0.01), Difference(9e-4, 9e-5))


@pytest.mark.parametrize(
    ("measured", "reported"),
    [
        (GOOD, []),
        (replace(GOOD, seconds=1e6, taken=ModelTime(1e6, 0.9)), []),  # no timing is judged
        (replace(GOOD, memory=4.1e9), ["4.1e+09 bytes in memory, above 4e+09"]),
        (replace(GOOD, found=Difference(2e-3, 0)), ["0.002 pixels apart, above 0.001"]),
        (
            replace(GOOD, found=Difference(0, 0, 0.02)),
            ["0.02 of the decisions apart, above 0.01"],
        ),
        (replace(GOOD, found=Difference(0, 2e-4)), ["0.0002 of a score apart, above 0.0001"]),
    ],
)
def test_exceeded_limits_are_reported(measured: Measured, reported: list[str]) -> None:
    assert measured.beyond() == reported


def test_only_the_rows_measured_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "models.md"
    page.write_text(f"before\n{BEGIN}\n| `hourglass` | old |\n| `res_18` | old |\n{END}\nafter\n")
    monkeypatch.setattr(make_zoo_table, "PAGE", page)
    new = Row("`hourglass`", *"23456789")
    make_zoo_table.write([new])
    head, rule, *rows = page.read_text().partition(BEGIN)[2].partition(END)[0].split("\n")[1:-1]
    assert head.count("|") == rule.count("|") == len(astuple(new)) + 1
    assert rows == ["| `res_18` | old |", str(new)]
    assert page.read_text().startswith(f"before\n{BEGIN}\n|")
    assert page.read_text().endswith(f"|\n{END}\nafter\n")
    page.write_text("")
    with pytest.raises(SystemExit, match="marks of the table are missing"):
        make_zoo_table.write([])


def test_the_page_has_the_table() -> None:
    assert BEGIN in PAGE.read_text()
    assert END in PAGE.read_text()

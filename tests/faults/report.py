"""The table of promises: for the terminal, and as docs/reliability.md.

``python -m tests.faults.report [RESULTS]`` adds the results of a run to docs/reliability.json, and
writes the page from it. Without RESULTS it only writes the page, for example after a promise was
reworded.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.promises import PROMISES
from tests.faults.results import Measured, Results, load, save

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, KEPT = DOCS / "reliability.md", DOCS / "reliability.json"
MARKER = "<!-- Below: made by `make faults` from reliability.json; don't edit. -->"

Row = tuple[str, ...]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _verdict(rows: Sequence[Measured]) -> str:
    if not rows:
        return "not measured"
    if not all(row.kept for row in rows):
        return "**broken**"
    return "kept" if any(row.enough for row in rows) else "kept, as far as it was tested"


def _summary(results: Results) -> Iterator[Row]:
    for name, promise in PROMISES.items():
        rows = results.of(name)
        yield (
            promise.sentence,
            f"{_number(promise.bound)} {promise.unit}",
            _number(max(row.worst for row in rows)) if rows else "",
            str(sum(len(row.figures) for row in rows)),
            _verdict(rows),
        )


def table(results: Results) -> str:
    """Return the promises and their figures, aligned for a terminal."""
    head = ("promise", "at most", "worst", "tries", "")
    rows = [head, *_summary(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    widths[0] = min(widths[0], 60)
    return "\n".join(
        "  ".join(cell[: widths[i]].ljust(widths[i]) for i, cell in enumerate(row)).rstrip()
        for row in rows
    )


def page(former: str, results: Results) -> str:
    """Return the page, with its hand-written beginning kept."""
    written, _, _ = former.partition(MARKER)
    return written + MARKER + "\n\n" + "\n".join(_sections(results)) + "\n"


def _sections(results: Results) -> Iterator[str]:
    yield "## The promises\n"
    yield from _markdown(("promise", "at most", "worst", "tries", "verdict"), _summary(results))
    yield "\n## The faults\n"
    environments = list(dict.fromkeys((r.date, r.machine, r.command) for r in results.measured))
    yield from _markdown(
        ("fault", "figure", "median", "worst", "tries", "run"), _tries(results, environments)
    )
    yield "\n## Runs\n"
    yield from _markdown(
        ("run", "date", "command", "machine"),
        (
            (str(number), date, f"`{command}`", machine)
            for number, (date, machine, command) in enumerate(environments, 1)
        ),
    )
    missing = list(_missing(results))
    if missing:
        yield "\n## Not measured, or not completely\n"
        yield from _markdown(("promise or fault", "reason"), missing)


def _tries(results: Results, environments: list[tuple[str, str, str]]) -> Iterator[Row]:
    for name, promise in PROMISES.items():
        for row in results.of(name):
            yield (
                f"{row.fault}; {row.note}" if row.note else row.fault,
                promise.unit,
                _number(sorted(row.figures)[len(row.figures) // 2]),
                _number(row.worst),
                str(len(row.figures)),
                str(environments.index((row.date, row.machine, row.command)) + 1),
            )


def _missing(results: Results) -> Iterator[Row]:
    for name, promise in PROMISES.items():
        if promise.limitation:
            yield promise.sentence, promise.limitation
        elif not results.of(name):
            yield promise.sentence, "not measured in these runs"
    for row in results.skipped:
        yield row.fault, row.reason


def _markdown(head: Row, rows: Iterator[Row] | list[Row]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def main(*measured: Path) -> None:
    """Add the results of runs to those that are kept, and write the page."""
    results = load(KEPT)
    for path in measured:
        results = results.updated(load(path))
    save(results, KEPT)
    PAGE.write_text(page(PAGE.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

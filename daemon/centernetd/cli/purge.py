"""``centernetd purge``: deletes what a stream recorded in a range of time."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Annotated

import typer

from centernetd.cli.options import ConfigFile, Json, read_config
from centernetd.cli.output import print_table
from centernetd.commands.purge import Purged, Range
from centernetd.commands.purge import purge as remove

_HEADING = ("removed", "bytes", "from", "to", "file")
_TO_BE = ("to be removed", *_HEADING[1:])


def purge(
    stream: Annotated[str, typer.Option(metavar="NAME", help="The stream.")],
    begin: Annotated[
        str,
        typer.Option(
            "--from", metavar="T", help="As in 2026-11-28T10:00:00Z; without a zone: local time."
        ),
    ],
    end: Annotated[str, typer.Option("--to", metavar="T", help="The end, not included.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Delete what a stream recorded in a range of time, and print what was deleted.

    Recordings that overlap the range are deleted as a whole, also what they contain before and
    after it. Events in the range are cut out of their files. Files that the running daemon is
    writing are left, and reported with exit code 1: purge again later, or stop the daemon first.
    Deletes nothing outside storage.root, and nothing that centernetd did not write. Copies and
    backups are not reached, and deleted data is not overwritten on the disk.
    """
    period = _range(begin, end)
    done = remove(read_config(config), stream, period, dry=dry_run)
    if as_json:
        print(json.dumps(_document(stream, period, done, dry_run=dry_run), indent=2))
    else:
        _print_receipt(stream, period, done, dry_run=dry_run)
    raise typer.Exit(int(any(each.problem for each in done)))


def _range(begin: str, end: str) -> Range:
    period = Range(_parse("--from", begin, fold=0), _parse("--to", end, fold=1))
    if period.begin >= period.end:
        raise typer.BadParameter(f"--from {begin} is not before --to {end}")
    return period


def _parse(option: str, text: str, fold: int) -> float:
    """Return Unix time; ``fold`` chooses one of two when the clock was set back."""
    try:
        at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        seconds = (at.replace(fold=fold) if at.tzinfo is None else at).timestamp()
        _shown(seconds)  # it can also be printed
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{option} {text}: write a date and time, as in 2026-11-28T10:00:00Z (UTC), "
            "2026-11-28T11:00:00+01:00 or 2026-11-28T11:00 (local time)"
        ) from None
    return seconds


def _print_receipt(stream: str, period: Range, done: Sequence[Purged], *, dry_run: bool) -> None:
    print(f"{stream}, from {_shown(period.begin)} to {_shown(period.end)}:")
    removed = [each for each in done if each.problem is None]
    if removed:
        print_table(_TO_BE if dry_run else _HEADING, _rows(removed))
    for each in done:
        if each.problem is not None:
            print(f"not removed: {each.path}: {each.problem}")
    recordings = sum(each.lines is None for each in removed)
    events = sum(each.lines or 0 for each in removed)
    size = sum(each.size for each in removed)
    verb = "would be removed" if dry_run else "removed"
    print(f"{verb}: {recordings} recordings and {events} events, {size} bytes")


def _rows(removed: Sequence[Purged]) -> Iterator[tuple[str, ...]]:
    for each in removed:
        what = "recording" if each.lines is None else f"{each.lines} events"
        yield what, str(each.size), _shown(each.begin), _shown(each.end), each.path


def _document(
    stream: str, period: Range, done: Sequence[Purged], *, dry_run: bool
) -> dict[str, object]:
    files = [
        {**dataclasses.asdict(each), "begin": _shown(each.begin), "end": _shown(each.end)}
        for each in done
    ]
    return {
        "stream": stream,
        "from": _shown(period.begin),
        "to": _shown(period.end),
        "dry_run": dry_run,
        "removed": [file for file in files if file["problem"] is None],
        "not_removed": [file for file in files if file["problem"] is not None],
    }


def _shown(at: float | None) -> str:
    if at is None:
        return "unknown"
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")[:19] + "Z"

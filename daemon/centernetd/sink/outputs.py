"""Recognising the daemon's files under the storage root, by name and content."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from re import Pattern

from centernetd.config import StreamConfig
from centernetd.config.regular import NotRegularError, open_regular
from centernetd.config.template import patterns
from centernetd.sink.events import made_from_file
from centernetd.sink.file import PART
from centernetd.sink.segments import FROM_CAMERA, FROM_FILE

_HEAD = 4096  # bytes that identify the kind of a file


@dataclass(frozen=True)
class Output:
    """The files written with one path template: either recordings or events.

    Those made ``from_file`` are kept forever.
    """

    template: str
    is_video: bool
    from_file: bool
    patterns: tuple[Pattern[str], ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", patterns(self.template))

    def matches_name(self, relative: Path) -> bool:
        """Return whether ``relative``, a path under the root, is named like a complete file."""
        parts = relative.parts
        return len(parts) == len(self.patterns) and all(
            pattern.fullmatch(part) for pattern, part in zip(self.patterns, parts, strict=True)
        )

    def matches_content(self, path: Path) -> bool:
        """Return whether ``path``, whose name fits, is of this kind, from its first bytes.

        Raises
        ------
        OSError
            When it can't be read.
        """
        try:
            with open_regular(path, "rb") as file:
                head = file.read(_HEAD)
        except NotRegularError:  # replaced by something else
            return False
        if self.is_video:
            return (FROM_FILE if self.from_file else FROM_CAMERA).encode() in head
        return made_from_file(head) is self.from_file


def outputs_of(streams: Iterable[StreamConfig]) -> tuple[Output, ...]:
    """Return the kinds of files written by these streams, each once."""
    found = {
        Output(path, is_video, stream.from_file): None
        for stream in streams
        for path, is_video in ((stream.record.path, True), (stream.events.path, False))
    }
    return tuple(found)


def walk(
    root: Path, outputs: Iterable[Output], on_error: Callable[[OSError], None]
) -> Iterator[tuple[Path, os.stat_result, Output]]:
    """Yield the files whose names fit, including ``*.part``; symbolic links are not followed.

    A file that fits several outputs is yielded with each. Folders that can't contain any are
    not entered; files that vanish meanwhile are skipped. Unreadable entries are skipped too,
    after calling ``on_error``.
    """
    yield from _walk(root, 0, list(outputs), on_error)


def _walk(
    folder: Path, depth: int, outputs: list[Output], on_error: Callable[[OSError], None]
) -> Iterator[tuple[Path, os.stat_result, Output]]:
    entries: list[os.DirEntry[str]] = []
    with _skipping_errors(on_error), os.scandir(folder) as listed:
        entries.extend(listed)
    for entry in entries:
        name = entry.name.removesuffix(PART)
        fitting = [
            output
            for output in outputs
            if depth < len(output.patterns) and output.patterns[depth].fullmatch(name)
        ]
        if not fitting:
            continue
        with _skipping_errors(on_error):
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1, fitting, on_error)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                last = (output for output in fitting if depth == len(output.patterns) - 1)
                yield from ((Path(entry.path), status, output) for output in last)


@contextmanager
def _skipping_errors(on_error: Callable[[OSError], None]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        on_error(error)

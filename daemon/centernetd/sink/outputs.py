"""Recognising the daemon's files under the storage root, by name and content."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from centernetd.config import StreamConfig
from centernetd.config.regular import NotRegularError, open_regular
from centernetd.config.template import PART, patterns
from centernetd.sink.events import made_from_file
from centernetd.sink.segments import FROM_CAMERA, FROM_FILE

_HEAD = 4096  # bytes that identify the kind of a file
_MARK = re.compile(rf"({FROM_CAMERA}|{FROM_FILE})(?:: ([a-z0-9_-]{{1,63}}))?".encode())
_STREAM = re.compile(rb'"stream": "([a-z0-9_-]{1,63})"')


class Origin(NamedTuple):
    """Which stream wrote a file, and whether its source was a file, from the content.

    Early recordings don't contain their stream's name: then it is None.
    """

    stream: str | None
    from_file: bool


@dataclass(frozen=True)
class Output:
    """The files written with one path template: either recordings or events.

    They are those of ``stream``, or, if that is None, of streams that are not configured. They are
    deleted when they are older than ``keep_for`` seconds; None keeps them, except that recordings
    and events of cameras also make room for new ones.
    """

    template: str
    is_video: bool
    from_file: bool
    keep_for: float | None
    stream: str | None = None
    patterns: tuple[re.Pattern[str], ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", patterns(self.template, self.stream))

    def matches_name(self, relative: Path) -> bool:
        """Return whether ``relative``, a path under the root, is named like one of the files."""
        *folders, name = relative.parts
        parts = (*folders, self.complete(name))
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
        origin = origin_of(path, is_video=self.is_video)
        if origin is None or origin.from_file is not self.from_file:
            return False
        return self.stream is None or origin.stream in (None, self.stream)

    def complete(self, name: str) -> str:
        """Return ``name`` without the suffix of an incomplete file; events are never incomplete."""
        return name.removesuffix(PART) if self.is_video else name


def origin_of(path: Path, *, is_video: bool) -> Origin | None:
    """Return which stream wrote a recording or events file; None for files of others.

    Raises
    ------
    OSError
        When it can't be read.
    """
    try:
        with open_regular(path, "rb") as file:
            head = file.read(_HEAD)
    except NotRegularError:  # replaced by something else
        return None
    if is_video:
        mark = _MARK.search(head)
        named = mark and mark[2]
        from_file = mark and mark[1] == FROM_FILE.encode()
    else:
        stream = _STREAM.search(head)
        named = stream and stream[1]
        from_file = made_from_file(head)
    if from_file is None:
        return None
    return Origin(named.decode() if named else None, from_file)


def owners(path: Path, fitting: Iterable[Output]) -> Sequence[Output]:
    """Return which outputs, of those that ``path`` fits by name, it belongs to by content.

    Those of configured streams come alone. Several do if names are ambiguous (``gate-1.mp4`` may
    also be the second file of ``gate``) and an early recording doesn't contain its stream's name.

    Raises
    ------
    OSError
        When it can't be read.
    """
    found = [output for output in fitting if output.matches_content(path)]
    return [output for output in found if output.stream is not None] or found


def outputs_of(streams: Iterable[StreamConfig], keep_for: float | None) -> tuple[Output, ...]:
    """Return the files of each stream, and those of others that were written like them.

    The latter, of streams that were removed, are kept for ``keep_for`` seconds (None: no limit);
    those made from files, forever.
    """
    found: dict[Output, None] = {}
    for stream in streams:
        for is_video, kind in ((True, stream.record), (False, stream.events)):
            others = None if stream.from_file else keep_for
            for period, name in ((kind.keep_for, stream.name), (others, None)):
                found[Output(kind.path, is_video, stream.from_file, period, name)] = None
    return tuple(found)


def walk(
    root: Path, outputs: Iterable[Output], on_error: Callable[[OSError], None]
) -> Iterator[tuple[Path, os.stat_result, Collection[Output]]]:
    """Yield each file whose name fits outputs, with these; also ``*.part``.

    Symbolic links are not followed, and folders that can't contain any are not entered. Files that
    vanish meanwhile are skipped. So are unreadable entries, after calling ``on_error``.
    """
    yield from _walk(root, 0, list(outputs), on_error)


def _walk(
    folder: Path, depth: int, outputs: list[Output], on_error: Callable[[OSError], None]
) -> Iterator[tuple[Path, os.stat_result, Collection[Output]]]:
    entries: list[os.DirEntry[str]] = []
    with _skipping_errors(on_error), os.scandir(folder) as listed:
        entries.extend(listed)
    for entry in entries:
        fitting = [
            output
            for output in outputs
            if depth < len(output.patterns)
            and output.patterns[depth].fullmatch(output.complete(entry.name))
        ]
        if not fitting:
            continue
        with _skipping_errors(on_error):
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1, fitting, on_error)
            elif entry.is_file(follow_symlinks=False):
                last = [output for output in fitting if depth == len(output.patterns) - 1]
                if last:
                    yield Path(entry.path), entry.stat(follow_symlinks=False), last


@contextmanager
def _skipping_errors(on_error: Callable[[OSError], None]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        on_error(error)

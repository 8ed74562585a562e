"""Which files under the storage root are the daemon's: by their names, and by what is in them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from re import Pattern

from daemon.config import StreamConfig
from daemon.config.template import patterns
from daemon.sink.file import PART
from daemon.sink.recording import FROM_CAMERA, FROM_FILE

_HEAD = 4096  # bytes in which a file says what it is
_EVENT = b'{"stream": "'  # how each line of an events file begins


@dataclass(frozen=True)
class Output:
    """What is written by one path template: recordings, or else events.

    Those made ``from_file`` are kept for ever.
    """

    template: str
    is_video: bool
    from_file: bool
    patterns: tuple[Pattern[str], ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", patterns(self.template))

    def fits(self, relative: Path) -> bool:
        """Whether a complete file of this path under the root is named as this is."""
        parts = relative.parts
        return len(parts) == len(self.patterns) and all(
            pattern.fullmatch(part) for pattern, part in zip(self.patterns, parts, strict=True)
        )

    def made(self, path: Path) -> bool:
        """Whether ``path``, whose name fits, is of this kind: its first bytes tell."""
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError:
            return False
        if self.is_video:
            return (FROM_FILE if self.from_file else FROM_CAMERA).encode() in head
        return head.startswith(_EVENT)


def outputs_of(streams: Iterable[StreamConfig]) -> tuple[Output, ...]:
    """Return what these streams write, each kind once."""
    found = {
        Output(path, is_video, stream.source.is_file): None
        for stream in streams
        for path, is_video in ((stream.record.path, True), (stream.events.path, False))
    }
    return tuple(found)


def walk(root: Path, outputs: Iterable[Output]) -> Iterator[tuple[Path, os.stat_result, Output]]:
    """Yield the files whose names fit, with ``*.part`` too; symbolic links are not followed.

    A file that fits several outputs comes with each. Folders that can't hold any are not
    entered; what vanishes meanwhile is passed over.
    """
    yield from _walk(root, 0, list(outputs))


def _walk(
    folder: Path, depth: int, outputs: list[Output]
) -> Iterator[tuple[Path, os.stat_result, Output]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        name = entry.name.removesuffix(PART)
        fitting = [
            output
            for output in outputs
            if depth < len(output.patterns) and output.patterns[depth].fullmatch(name)
        ]
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1, fitting)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                last = (output for output in fitting if depth == len(output.patterns) - 1)
                yield from ((Path(entry.path), status, output) for output in last)
        except OSError:
            continue

"""The event log: detections as JSON Lines."""

import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from centernetd.config.regular import open_regular
from centernetd.flow import Detections, Result
from centernetd.sink.annotate import label_of
from centernetd.sink.file import MAX_FILE_SIZE, OutputFile, as_sink_error, unused
from centernetd.sink.stage import BatchSink, Outcome, SinkContext

log = logging.getLogger(__name__)

_BLOCK = 65536


_BEGINNING = b'{"stream": "'  # of each line
_FROM_FILE = '"from": "file", '  # part of a line about a file, but not of one about a camera


def made_from_file(head: bytes) -> bool | None:
    """Return whether an events file with this ``head`` is about a file; None for other files."""
    if not head.startswith(_BEGINNING):
        return None
    return _FROM_FILE.encode() in head.partition(b'"frame"')[0]


class EventLog(BatchSink):
    """Writes one line of JSON per frame.

    If the path template contains the time, an existing file is continued (for the rest of an
    hour after a restart); otherwise a new name is chosen, like for a recording.
    """

    def __init__(self, context: SinkContext) -> None:
        stream = context.stream
        self._stream = stream.name
        self._config = stream.events
        self._beginning = f'{{"stream": "{stream.name}", {_FROM_FILE if stream.from_file else ""}'
        self._shows = context.shows
        self._labels = context.labels
        self._storage = context.storage
        self._second = -1
        self._template_has_time = "%" in self._config.path.replace("%%", "")
        self._place = self._path = Path()
        self._file: OutputFile | None = None

    def wants(self, result: Result) -> bool:
        """Return whether the frame has detections, or all frames are configured."""
        return self._config.when == "always" or len(self._shows(result.detections)) > 0

    def write_batch(self, results: Sequence[Result]) -> Outcome:
        """Append the frames' lines; see `stage.BatchSink`."""
        try:
            self._storage.require_writable()
            for second, of_second in groupby(results, lambda result: int(result.frame.wall_time)):
                file = self._file_at(second)
                file.write("".join(map(self._line, of_second)).encode())
                file.mark_whole()
                file.sync()
        except Exception:
            self._abandon()
            raise
        return Outcome(written=len(results))

    def close(self) -> Outcome:
        """Close the file; see `stage.Sink`."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            finally:
                self._storage.end(file.path, file.path)
        return Outcome()

    def _line(self, result: Result) -> str:
        """Return a frame's event: times in seconds, boxes and keypoints in source pixels.

        It is exactly what `json.dumps` returns, in a third of the time.
        """
        frame = result.frame
        seconds, milliseconds = divmod(int(frame.wall_time * 1000), 1000)
        return (
            f'{self._beginning}"frame": {frame.frame_id}, "pts": {round(frame.time, 6)!r}, '
            f'"time": "{_utc(seconds)}.{milliseconds:03}Z", '
            f'"detections": {to_json(self._shows(result.detections), self._labels)}}}\n'
        )

    def _file_at(self, second: int) -> OutputFile:
        """Return the file for a time; whether it is the right one is checked every second."""
        if self._file is None or second != self._second:
            place = self._storage.place(self._config.path, self._stream, second)
            full = self._file is not None and self._file.size >= MAX_FILE_SIZE
            if self._file is None or place != self._place or full or not self._file.is_intact:
                self.close()
                self._file = self._open(place, full=full)
            self._second = second
        return self._file

    def _open(self, place: Path, *, full: bool) -> OutputFile:
        if place != self._place or full:
            continued = self._template_has_time and not full
            self._path = place if continued else unused(place)
            self._place = place
        self._storage.begin(self._path)
        try:
            with as_sink_error(self._path):
                cut_torn_line(self._path)
            return OutputFile(self._path, "a")
        except Exception:
            self._storage.end(self._path, None)
            raise

    def _abandon(self) -> None:
        if self._file is not None:
            self._file.abandon()
            self._storage.end(self._file.path, self._file.path)
            self._file = None


def cut_torn_line(path: Path) -> bool:
    """Truncate an events file after its last whole line; return whether that was needed.

    A file that does not exist, or that is not ours, is left alone.

    Raises
    ------
    OSError
        When it can't be truncated.
    """
    if not path.exists():
        return False
    with open_regular(path, "r+b") as file:
        head, size = file.read(len(_BEGINNING)), file.seek(0, os.SEEK_END)
        whole = _last_line_end(file, size)
        if whole == size or not _BEGINNING.startswith(head):
            return False
        file.truncate(whole)
    log.warning("%s was cut off: its last line, which was torn, is removed", path)
    return True


def _last_line_end(file: BinaryIO, size: int) -> int:
    start = size
    while start > 0:
        start = max(0, start - _BLOCK)
        file.seek(start)
        found = file.read(_BLOCK).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0


def to_json(detections: Detections, labels: Sequence[str]) -> str:
    """Return detections in the form used in events, as JSON."""
    if not len(detections):
        return "[]"
    boxes, scores = _rounded(detections.xyxy, 2), _rounded(detections.confidence, 4)
    keypoints = [""] * len(detections)
    if detections.keypoints is not None:
        places = _rounded(detections.keypoints[:, :, :2], 2)
        weights = _rounded(detections.keypoints[:, :, 2], 4)
        keypoints = [
            f', "keypoints": {[[*place, weight] for place, weight in zip(*joints, strict=True)]}'
            for joints in zip(places, weights, strict=True)
        ]
    # A list of finite numbers looks in Python as in JSON; those of detections are finite.
    found = [
        f'{{"box": {box}, "score": {score}, "class_id": {class_id}, '
        f'"label": {_quoted(label_of(class_id, labels))}{points}}}'
        for box, score, class_id, points in zip(
            boxes, scores, detections.class_id.tolist(), keypoints, strict=True
        )
    ]
    return f"[{', '.join(found)}]"


_quoted = lru_cache(maxsize=1024)(json.dumps)


@lru_cache(maxsize=64)
def _utc(seconds: int) -> str:
    """Return Unix time as in RFC 3339, without fractions and zone."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]


def _rounded(values: NDArray[np.float32], decimals: int) -> list[Any]:
    rounded: list[Any] = values.astype(np.float64).round(decimals).tolist()
    return rounded

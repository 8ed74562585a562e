"""The event log: detections as JSON Lines."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from centernetd.config.regular import open_regular
from centernetd.flow import Detections, Result, TrackEvent, uuid7
from centernetd.sink.file import MAX_FILE_SIZE, OutputFile, as_sink_error, unused
from centernetd.sink.stage import BatchSink, Outcome, SinkContext

log = logging.getLogger(__name__)

_BLOCK = 65536

# The beginning of a line, of what follows the source's kind, and what shows that it was a file:
# in the present schema, and in the first.
_SCHEMAS = (
    (b'{"schema": ', b'"pts"', b'"time_source": "file"'),
    (b'{"stream": ', b'"frame"', b'"from": "file"'),
)
_BEGINNING = len(_SCHEMAS[0][0])
_DETECTION = '{%s, "score": %.4f, "box": [%.2f, %.2f, %.2f, %.2f]%s}'


def made_from_file(head: bytes) -> bool | None:
    """Return whether an events file with this ``head`` is about a file; None for other files."""
    for beginning, following, mark in _SCHEMAS:
        if head.startswith(beginning):
            return mark in head.partition(following)[0]
    return None


class EventLog(BatchSink):
    """Writes one line of JSON per frame, and one for each thing that happens to a track.

    If the path template contains the time, an existing file is continued (for the rest of an
    hour after a restart); otherwise a new name is chosen, like for a recording.
    """

    def __init__(self, context: SinkContext) -> None:
        stream = context.stream
        self._stream = stream.name
        self._config = stream.events
        self._logs_tracks = stream.logs_tracks
        self._header = (
            '{"schema": 2, "type": "%s", "id": "%s", '
            f'"node": "{context.node}", "stream": "{stream.name}", "time": "%s.%03dZ", '
            f'"time_source": "{"file" if stream.from_file else "arrival"}", '
            '"pts": %r, "size": [%d, %d], '
        )
        self._shows = context.shows
        self._classes = [
            members(model=each.model, label=each.label, class_id=each.number)
            for each in context.classes
        ]
        self._storage = context.storage
        self._status = context.status
        self._second = -1
        self._template_has_time = "%" in self._config.path.replace("%%", "")
        self._place = self._path = Path()
        self._file: OutputFile | None = None

    def select(self, result: Result) -> Result | None:
        """Return the frame with the detections that count; None if it has no line."""
        shown = self._shows(result.detections)
        frames = self._config.frames
        if frames == "never" or (frames == "detections" and not len(shown)):
            return None
        if shown is result.detections:
            return result
        return Result(result.frame, shown, result.events, result.scene)

    def write_batch(self, results: Sequence[Result], events: Sequence[TrackEvent] = ()) -> Outcome:
        """Append lines about tracks, then those about frames; see `stage.BatchSink`."""
        asked = events if self._logs_tracks else ()
        # Not into the file of an earlier hour: a track ends when it was last seen.
        tracks = [(max(self._second, int(e.wall_time)), self._track_line(e)) for e in asked]
        frames = ((int(result.frame.wall_time), self._line(result)) for result in results)
        try:
            self._storage.require_writable()
            for second, lines in groupby(chain(tracks, frames), itemgetter(0)):
                file = self._file_at(second)
                file.write("".join(line for _, line in lines).encode())
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
        """Return a frame's line: times in seconds, boxes and keypoints in source pixels."""
        frame = result.frame
        header = self._beginning("frame", frame.wall_time, frame.time, frame.image.size)
        track_ids = None if result.scene is None else result.scene.track_ids
        found = to_json(result.detections, self._classes, track_ids)
        return f'{header}"frame": {frame.frame_id}, "detections": {found}}}\n'

    def _track_line(self, event: TrackEvent) -> str:
        header = self._beginning(event.type, event.wall_time, event.time, event.size)
        details: dict[str, object] = {
            "track_id": event.track_id,
            "label": event.label,
            "score": round(event.score, 4),
            "box": [round(edge, 2) for edge in event.box],
        }
        optional = {"zone": event.zone, "line": event.line, "direction": event.direction}
        details |= {key: value for key, value in optional.items() if value is not None}
        if event.dwell is not None:
            details["dwell"] = round(event.dwell, 3)
        if event.first is not None:
            crossings = [{"line": line, "direction": way} for line, way in event.crossings]
            details |= {"first": rfc3339(event.first), "last": rfc3339(event.wall_time)}
            details |= {"crossings": crossings}
            details |= {"zones": {zone: round(dwell, 3) for zone, dwell in event.zones.items()}}
            if self._status.output is not None:
                recording = os.path.relpath(self._status.output, self._storage.root)
                details["recording"] = recording
        return f"{header}{json.dumps(details)[1:]}\n"

    def _beginning(self, kind: str, wall_time: float, time: float, size: tuple[int, int]) -> str:
        """Return the fields that every line has, up to where its own begin."""
        seconds, milliseconds = divmod(int(wall_time * 1000), 1000)
        height, width = size
        name = uuid7(wall_time)
        clock = _utc(seconds), milliseconds, round(time, 6)
        return self._header % (kind, name, *clock, width, height)

    def _file_at(self, second: int) -> OutputFile:
        """Return the file for a time; whether it is the right one is checked every second."""
        if self._file is None or second != self._second:
            place = self._storage.place(self._config.path, self._stream, second)
            if self._file is not None and not self._file.is_intact:
                message = "%s was deleted, moved or cut by others; events are still written"
                log.warning(message, self._path, extra={"stream": self._stream})
                self.close()
            full = self._file is not None and self._file.size >= MAX_FILE_SIZE
            if self._file is None or place != self._place or full:
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
        head, size = file.read(_BEGINNING), file.seek(0, os.SEEK_END)
        whole = _last_line_end(file, size)
        ours = any(beginning.startswith(head) for beginning, _, _ in _SCHEMAS)
        if whole == size or not ours:
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


def members(**fields: str | int) -> str:
    """Return the members of a JSON object, without its braces."""
    return json.dumps(fields)[1:-1]


def to_json(
    found: Detections, classes: Sequence[str], track_ids: Mapping[int, str] | None = None
) -> str:
    """Return detections as JSON, in the form used in events.

    ``classes`` has the `members` that name each class, ``track_ids`` names the confirmed tracks.
    """
    count = len(found)
    if not count:
        return "[]"
    more = [""] * count
    if found.tracker_id is not None and track_ids:
        names = [track_ids.get(number) for number in found.tracker_id.tolist()]
        more = ["" if name is None else f', "track_id": "{name}"' for name in names]
    if found.keypoints is not None:
        numbers = found.keypoints.reshape(count, -1).tolist()
        more = [a + _keypoints(b) for a, b in zip(more, numbers, strict=True)]
    # Formatted, and not given to `json`: this is done for every frame.
    rows = [
        _DETECTION % (classes[class_id], score, *box, after)
        for class_id, score, box, after in zip(
            found.class_id.tolist(),
            found.confidence.tolist(),
            found.xyxy.tolist(),
            more,
            strict=True,
        )
    ]
    return f"[{', '.join(rows)}]"


def _keypoints(numbers: list[float]) -> str:
    """Return the member for a detection's keypoints, if it has any.

    ``numbers`` are x, y and score of each, and NaN after the last.
    """
    while numbers and math.isnan(numbers[-1]):
        del numbers[-3:]
    return _keypoints_format(len(numbers) // 3) % tuple(numbers)


@lru_cache
def _keypoints_format(count: int) -> str:
    points = ", ".join(["[%.2f, %.2f, %.4f]"] * count)
    return f', "keypoints": [{points}]' if count else ""


def rfc3339(wall_time: float) -> str:
    """Return Unix time as in RFC 3339, in UTC with milliseconds."""
    seconds, milliseconds = divmod(int(wall_time * 1000), 1000)
    return f"{_utc(seconds)}.{milliseconds:03}Z"


@lru_cache(maxsize=64)
def _utc(seconds: int) -> str:
    """Return Unix time as in RFC 3339, without fractions and zone."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]

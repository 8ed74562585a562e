"""Mending what a kill or a power cut left behind."""

import logging
import os
import struct
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import BinaryIO

from centernetd.sink.events import cut_torn_line
from centernetd.sink.file import PART, open_regular, unused
from centernetd.sink.outputs import Output, walk

log = logging.getLogger(__name__)

_LARGEST_HEADER = 4096  # bytes; a file without a fragment holds no more
_LAST = 3600.0  # seconds before the end: what was written earlier is on the disk


def recover(root: Path, outputs: Iterable[Output], writing: Collection[Path] = ()) -> int:
    """Mend every file of ``outputs`` that was cut off; returns how many.

    A ``*.part`` is cut at its last whole fragment and gets its name, or goes if there is none
    in it. Events files that were written to in the last hour before the end are cut behind their
    last whole line. No other file is touched, nor are those that are being written. A file that
    can't be mended is told of and left.
    """

    def unseen(error: OSError) -> None:
        log.warning("%s can't be looked at: %s", error.filename, error.strerror)

    events: list[tuple[float, Path, Output]] = []
    mended = 0
    for path, status, output in walk(root, outputs, unseen):
        if path in writing:
            continue
        if path.suffix == PART:
            mended += output.is_video and _tried(recover_recording, path, output)
        elif not output.is_video:
            events.append((status.st_mtime, path, output))
    end = max((written_at for written_at, _, _ in events), default=0.0)
    return mended + sum(
        _tried(_recover_events, path, output)
        for written_at, path, output in events
        if written_at > end - _LAST
    )


def _tried(mend: Callable[[Path, Output], bool], path: Path, output: Output) -> bool:
    try:
        return mend(path, output)
    except OSError as error:
        log.warning("%s was cut off and can't be mended: %s", path, error.strerror)
        return False


def recover_recording(part: Path, output: Output) -> bool:
    """Mend one ``*.part``; returns whether it was one of ``output``.

    Raises
    ------
    OSError
        When it can't be mended.
    """
    if not part.exists():
        return False
    with open_regular(part, "r+b") as file:
        status = os.fstat(file.fileno())
        whole = whole_fragments(file, status.st_size)
        if not output.made(part) and (whole or not _is_header(file, status.st_size)):
            return False
        if whole:
            file.truncate(whole)
            os.fsync(file.fileno())
    if not whole:
        part.unlink()
        log.warning("%s was cut off before its first picture: removed", part)
        return True
    _set_back(part, status)  # its age is what it was
    final = unused_beside(part)
    part.rename(final)
    log.warning("%s was cut off: %d bytes of it are kept", final, whole)
    return True


def unused_beside(part: Path) -> Path:
    """Return the name that ``part`` was to get, or the next that is free."""
    name = part.with_suffix("")
    return unused(name) if os.path.lexists(name) else name


def whole_fragments(file: BinaryIO, size: int) -> int:
    """Return where the last whole fragment of an MP4 file ends, 0 if there is none.

    Boxes are those of ISO/IEC 14496-12, 4.2.
    """
    at = end = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length, kind = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack(">Q", header[8:])
        if length < 8 or at + length > size or (at == 0 and kind != b"ftyp"):
            break
        at += length
        if kind == b"mdat":
            end = at
    return end


def _is_header(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    return size == 0 or (size < _LARGEST_HEADER and file.read(4) == b"ftyp")


def _recover_events(path: Path, output: Output) -> bool:
    status = path.stat()
    torn = cut_torn_line(path)
    if torn:
        _set_back(path, status)
    return torn


def _set_back(path: Path, status: os.stat_result) -> None:
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(path, ns=times, follow_symlinks=False)

"""Repairing files left incomplete by a kill or a power cut."""

import logging
import os
import struct
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from centernetd.config.regular import open_regular
from centernetd.config.template import PART
from centernetd.sink.events import cut_torn_line
from centernetd.sink.file import unused
from centernetd.sink.outputs import Output, walk

log = logging.getLogger(__name__)

_MAX_HEADER = 4096  # bytes; a file without a fragment is not larger
_LAST = 3600.0  # seconds before the end; anything written earlier is on the disk


def recover(root: Path, outputs: Iterable[Output], writing: Collection[Path] = ()) -> int:
    """Repair every file of ``outputs`` that was cut off; return their number.

    A ``*.part`` is truncated to its last whole fragment and renamed, or removed if it has
    none. Events files written in the last hour before the end are truncated after their last
    whole line. Other files, and those being written, are not touched. A file that can't be
    repaired is logged and left.
    """

    def log_error(error: OSError) -> None:
        log.warning("%s can't be read: %s", error.filename, error.strerror)

    events: list[tuple[float, Path]] = []
    repaired = 0
    for path, status, fitting in walk(root, outputs, log_error):
        if path in writing:
            continue
        if path.suffix == PART:
            repaired += _try(partial(recover_recording, outputs=fitting), path)
        elif not all(output.is_video for output in fitting):
            events.append((status.st_mtime, path))
    end = max((written_at for written_at, _ in events), default=0.0)
    return repaired + sum(
        _try(_recover_events, path) for written_at, path in events if written_at > end - _LAST
    )


def _try(repair: Callable[[Path], bool], path: Path) -> bool:
    try:
        return repair(path)
    except OSError as error:
        log.warning("%s was cut off and can't be repaired: %s", path, error.strerror)
        return False


def recover_recording(part: Path, outputs: Iterable[Output]) -> bool:
    """Repair one ``*.part``; return whether it was one of ``outputs``.

    Raises
    ------
    OSError
        When it can't be repaired.
    """
    if not part.exists():
        return False
    with open_regular(part, "r+b") as file:
        status = os.fstat(file.fileno())
        whole = whole_fragments(file, status.st_size)
        ours = any(output.is_video and output.matches_content(part) for output in outputs)
        if not ours and (whole or not _is_header(file, status.st_size)):
            return False
        if whole:
            file.truncate(whole)
            os.fsync(file.fileno())
    if not whole:
        part.unlink()
        log.warning("%s was cut off before its first picture: removed", part)
        return True
    _set_back(part, status)  # keeps its age
    final = final_name(part)
    part.rename(final)
    log.warning("%s was cut off: %d bytes of it are kept", final, whole)
    return True


def final_name(part: Path) -> Path:
    """Return the intended name of ``part``, or the next free one."""
    name = part.with_suffix("")
    return unused(name) if os.path.lexists(name) else name


def whole_fragments(file: BinaryIO, size: int) -> int:
    """Return where the last whole fragment of an MP4 file ends, 0 without any.

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
    return size == 0 or (size < _MAX_HEADER and file.read(4) == b"ftyp")


def _recover_events(path: Path) -> bool:
    status = path.stat()
    torn = cut_torn_line(path)
    if torn:
        _set_back(path, status)
    return torn


def _set_back(path: Path, status: os.stat_result) -> None:
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(path, ns=times, follow_symlinks=False)

"""Deleting what a stream recorded in a range of time, also while the daemon runs."""

import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from centernetd.commands.reload import find_daemon
from centernetd.config import Config
from centernetd.config.regular import open_regular
from centernetd.config.template import LOCK_NAME, PART
from centernetd.errors import ConfigError, StartupError
from centernetd.model.durable import sync
from centernetd.sink.file import unused
from centernetd.sink.lockfile import held, is_held_by, is_open_in
from centernetd.sink.outputs import Output, outputs_of, owners, walk

_HEADER = 4096  # bytes that contain a recording's `mvhd`
_LONGEST = 1 << 24  # bytes of a line; a longer one, such as a hole, is not an event
_EPOCH = 2_082_844_800  # seconds from 1904, in MP4, to 1970
_TIME = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?)Z"')
_DWELL = re.compile(rb'"dwell": (\d+(?:\.\d+)?)[,}]')
_BEING_WRITTEN = "is being written: purge again once it is complete, or stop the daemon first"


@dataclass(frozen=True)
class Range:
    """A range of Unix time; ``end`` is not part of it."""

    begin: float
    end: float

    def meets(self, begin: float, end: float) -> bool:
        """Return whether any instant from ``begin`` to ``end`` is in the range."""
        return begin < self.end and end >= self.begin


@dataclass(frozen=True)
class Purged:
    """A file of which something was removed, or, if there is a ``problem``, was not.

    ``lines`` is the number of events removed from the file, None for a file removed as a whole;
    ``size`` is in bytes. What it contained lasted from ``begin``, None if that is unknown, to
    ``end``, in Unix time. ``path`` is relative to the storage root.
    """

    path: str
    size: int = 0
    lines: int | None = None
    begin: float | None = None
    end: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _Purge:
    """What is removed: everything of ``stream`` in ``range``, unless ``dry``.

    ``in_use`` returns whether the running daemon, if any, has a file open.
    """

    stream: str
    range: Range
    dry: bool
    running: bool = False
    in_use: Callable[[os.stat_result], bool] = field(default=lambda _: False)


def purge(config: Config, stream: str, period: Range, *, dry: bool) -> Sequence[Purged]:
    """Remove what ``stream`` recorded in ``period``, and return what that was.

    Recordings that overlap it are removed as a whole; events are cut out of their files. With
    ``dry``, nothing is changed. No daemon starts meanwhile; files that a running one writes to are
    returned with a problem.

    Raises
    ------
    ConfigError
        There is no such stream, and no file of one.
    StartupError
        There is no storage root, or what the daemon writes can't be determined.
    """
    root = config.storage_root
    if not root.is_dir():
        raise StartupError(f"storage.root {root} does not exist or is not a folder: is it mounted?")
    with ExitStack() as stack:
        asked = _Purge(stream, period, dry)
        if not stack.enter_context(_locked(root)):
            daemon = find_daemon(root)
            if daemon is None:
                raise StartupError(f"a daemon is just starting or ending in {root}: try again")
            asked = replace(asked, running=True, in_use=_open_files(root, daemon.pid))
        if dry:
            stack.close()  # a daemon may start
        return _purge(root, _outputs(config, stream), asked, known=stream in config.streams)


@contextmanager
def _locked(root: Path) -> Iterator[bool]:
    """Keep daemons from starting in ``root``; yield False if one runs there."""
    with ExitStack() as stack:
        try:
            free = stack.enter_context(held(root / LOCK_NAME))
        except OSError as error:
            raise StartupError(
                f"{root / LOCK_NAME} can't be opened ({error.strerror}): run this as the daemon's "
                "user or as root"
            ) from None
        yield free


def _open_files(root: Path, process: int) -> Callable[[os.stat_result], bool]:
    """Return a test whether the daemon has a file open."""
    try:
        if is_held_by(root / LOCK_NAME, process):
            return partial(is_open_in, process)
        why = "it does not hold the lock file: does the daemon run in a container?"
    except OSError as error:
        why = f"{error.strerror}: run this as the daemon's user or as root"
    raise StartupError(
        f"a daemon (process {process}) writes to {root}, and which files it has open can't be "
        f"determined; {why}"
    )


def _outputs(config: Config, stream: str) -> Sequence[Output]:
    """Return the files of all streams, and of ``stream`` also if it is no longer configured."""
    outputs = outputs_of(config.streams.values(), None)
    if stream in config.streams:
        return outputs
    return [*outputs, *(replace(each, stream=stream) for each in outputs if each.stream is None)]


def _purge(
    root: Path, outputs: Sequence[Output], asked: _Purge, *, known: bool
) -> Sequence[Purged]:
    done: list[Purged] = []

    def fail(path: Path, error: OSError) -> None:
        done.append(Purged(str(path.relative_to(root)), problem=str(error.strerror)))

    def unlisted(error: OSError) -> None:
        fail(Path(error.filename), error)

    mine = [output for output in outputs if output.stream == asked.stream]
    for path in sorted(path for path, _, _ in walk(root, mine, unlisted)):
        name = path.relative_to(root)
        fitting = [output for output in outputs if output.matches_name(name)]
        try:
            with _folder_of(root, name) as folder:
                found = owners(folder / name.name, fitting)
                known |= _belongs(found, asked)
                done += _purge_file(folder, name, found, asked)
        except FileNotFoundError:
            continue
        except OSError as error:
            fail(path, error)
    if not known:
        raise ConfigError(
            f"{asked.stream}: there is no such stream in the configuration, and no file of one "
            f"under {root}"
        )
    return done


@contextmanager
def _folder_of(root: Path, relative: Path) -> Iterator[Path]:
    """Give the folder of a file by a path that can't lead elsewhere if others replace folders."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in relative.parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            above, descriptor = descriptor, os.open(part, flags, dir_fd=descriptor)
            os.close(above)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _belongs(found: Iterable[Output], asked: _Purge) -> bool:
    return any(output.stream == asked.stream for output in found)


def _purge_file(
    folder: Path, name: Path, found: Sequence[Output], asked: _Purge
) -> Iterator[Purged]:
    """Purge the file ``name`` (under the root), found to be of outputs ``found``."""
    if not _belongs(found, asked):
        return
    if others := sorted({str(output.stream) for output in found} - {asked.stream}):
        why = f"is not removed: by its name it may also be of {', '.join(others)}"
        yield Purged(str(name), problem=why)
    elif found[0].is_video:
        yield from _purge_recording(folder, name, found[0], asked)
    else:
        yield from _purge_events(folder, name, asked)


def _purge_recording(folder: Path, name: Path, output: Output, asked: _Purge) -> Iterator[Purged]:
    path = folder / name.name
    status = path.lstat()
    written = asked.running and name.suffix == PART
    begin = _begin_of(path, name, output)
    end = max(status.st_mtime, begin or 0.0)
    if not asked.range.meets(begin or 0.0, asked.range.end if written else end):
        return
    result = Purged(str(name), status.st_size, None, begin, end)
    if written:
        yield replace(result, size=0, problem=_BEING_WRITTEN)
        return
    if not asked.dry:
        path.unlink()
        sync(folder)
    yield result


def _begin_of(path: Path, name: Path, output: Output) -> float | None:
    """Return when a recording begins: from its header, or, for early ones, from its name.

    The header is that of ISO/IEC 14496-12, 8.2.2. A name with only parts of a time yields the
    earliest that it can mean.
    """
    with open_regular(path, "rb") as file:
        head = file.read(_HEADER)
    at = head.find(b"mvhd")
    if at >= 0 and head[at + 4 : at + 5] == b"\0" and len(head) >= at + 12:
        (created,) = struct.unpack(">I", head[at + 8 : at + 12])
        if created > _EPOCH:
            return float(created - _EPOCH)
    template = output.template.replace("{stream}", str(output.stream))
    whole = str(name).removesuffix(PART)
    for text in (whole, re.sub(r"-[0-9]+(?=\.mp4$)", "", whole)):
        with suppress(ValueError):
            begin = datetime.strptime(text, template).replace(tzinfo=timezone.utc).timestamp()
            return begin if begin > 0 else None
    return None


def _purge_events(folder: Path, name: Path, asked: _Purge) -> Iterator[Purged]:
    path = folder / name.name
    with open_regular(path, "rb") as raw, BufferedReader(raw) as file:
        status = os.fstat(raw.fileno())
        if status.st_mtime < asked.range.begin:
            return
        result = _found(file, asked.range, Purged(str(name), lines=0))
        if not result.lines:
            return
        if asked.in_use(status):
            yield replace(result, size=0, lines=0, problem=_BEING_WRITTEN)
            return
        if not asked.dry:
            file.seek(0)
            _cut(path, file, status, asked.range)
            sync(folder)
    yield result


def _found(file: BinaryIO, period: Range, result: Purged) -> Purged:
    """Add the events in ``period`` to ``result``."""
    size, lines = 0, 0
    times: list[float] = []
    for line in _lines(file):
        span = _span(line)
        if _is_in(span, period):
            size, lines = size + len(line), lines + 1
            times = [min((*times, *span)), max((*times, *span))] if times or span else []
    begin, end = times or (None, None)
    return replace(result, size=size, lines=lines, begin=begin, end=end)


def _cut(path: Path, file: BinaryIO, status: os.stat_result, period: Range) -> None:
    """Replace ``path`` by the lines of ``file`` that are not in ``period``, or remove it."""
    # Until it has the file's name, it has another that an events file can have: in case of a kill.
    rest = unused(path)
    try:
        with open(rest, "xb", opener=_private) as kept:
            kept.writelines(line for line in _lines(file) if not _is_in(_span(line), period))
            if (status.st_uid, status.st_gid) != _owner(kept.fileno()):
                os.fchown(kept.fileno(), status.st_uid, status.st_gid)
            os.fchmod(kept.fileno(), stat.S_IMODE(status.st_mode))
            kept.flush()
            os.utime(kept.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))  # keeps its age
            os.fsync(kept.fileno())
            empty = kept.tell() == 0
        if empty:
            path.unlink()
        else:
            rest.rename(path)
    finally:
        rest.unlink(missing_ok=True)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, and those that are too long for an event in pieces."""
    return iter(partial(file.readline, _LONGEST), b"")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _owner(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_uid, status.st_gid


def _span(line: bytes) -> tuple[float, float] | tuple[()]:
    """Return what time an event covers: from the beginning of its track or stay, if given."""
    try:
        times = [datetime.fromisoformat(f"{each.decode()}+00:00") for each in _TIME.findall(line)]
    except ValueError:
        return ()
    if not times:
        return ()
    dwell = _DWELL.search(line)
    begin = max(times).timestamp() - float(dwell[1] if dwell else 0)
    return min(begin, min(times).timestamp()), max(times).timestamp()


def _is_in(span: tuple[float, float] | tuple[()], period: Range) -> bool:
    """Return whether an event is in the range; one without a time, such as a torn one, is."""
    return not span or period.meets(*span)

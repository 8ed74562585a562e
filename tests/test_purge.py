"""What `purge` removes of a stream's range of time, what it leaves, and what it reports."""

import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from centernetd.commands import purge as purge_module
from centernetd.commands.purge import Range, purge
from centernetd.config import load
from centernetd.config.template import LOCK_NAME
from centernetd.run.reload import ReloadStatus
from centernetd.sink.file import part_of
from centernetd.sink.lockfile import LockFile
from centernetd.sink.muxer import FragmentedMp4
from centernetd.sink.outputs import walk
from centernetd.sink.segments import FROM_CAMERA, FROM_FILE
from tests.commandline import CommandLine, Outcome, configuration
from tests.sinks import NOON, coded

HOUR = 3600.0
PACKETS = list(coded(40))
FLAT = {"record": {"path": "{stream}.mp4"}, "events": {"path": "{stream}.jsonl"}}


def clock(seconds: float) -> str:
    """An instant this long after `NOON`, as the command line takes it and files have it."""
    at = datetime.fromtimestamp(NOON + seconds, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def purged(cli: CommandLine, tmp_path: Path, root: Path) -> Callable[..., Outcome]:
    """Purge a stream from and to a time after `NOON`; the streams are gate and gate-1."""
    del root

    def purged(
        begin: float,
        end: float,
        *options: str,
        stream: str = "gate",
        keys: dict[str, Any] | None = None,
    ) -> Outcome:
        both = {
            name: {"source": "rtsp://192.0.2.1/s", **(keys or {})} for name in ("gate", "gate-1")
        }
        config = configuration(tmp_path, "centerface", **both)
        period = ("--from", clock(begin), "--to", clock(end))
        return cli("purge", "-c", config, "--stream", stream, *period, *options)

    return purged


def recording(root: Path, hour: int, stream: str = "gate", mark: str | None = None) -> Path:
    """A recording of an early version, which names neither its stream nor its beginning."""
    begin = datetime.fromtimestamp(NOON + hour * HOUR, timezone.utc)
    path = root / stream / begin.strftime("%Y-%m-%d/%H-%M-%S.mp4")
    return put(path, NOON + hour * HOUR + 300, f"\0\0\0\x20ftyp {mark or FROM_CAMERA}\0".encode())


def put(path: Path, written_at: float, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (written_at, written_at))
    return path


def event(at: float, stream: str = "gate", **more: Any) -> bytes:
    line = {"stream": stream, "frame": 1, "time": clock(at), **more}
    return json.dumps(line).encode() + b"\n"


def events(root: Path, *times: float, stream: str = "gate", name: str = "22") -> Path:
    path = root / stream / f"2023-11-14-{name}.jsonl"
    return put(path, NOON + max(times), b"".join(event(at, stream) for at in times))


def listed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_recordings_that_overlap_go_as_a_whole_and_are_listed(
    purged: Callable[..., Outcome], root: Path
) -> None:
    """Each lasts for the first five minutes of an hour."""
    paths = [recording(root, hour) for hour in range(4)]
    outcome = purged(HOUR + 300, 2 * HOUR + 1)
    assert outcome.code == 0
    assert [path.exists() for path in paths] == [True, False, False, True]
    heading, header, first, second, total = outcome.out.splitlines()
    assert heading == "gate, from 2023-11-14T23:05:00Z to 2023-11-15T00:00:01Z:"
    assert header.split() == ["removed", "bytes", "from", "to", "file"]
    size = str(len(f"\0\0\0\x20ftyp {FROM_CAMERA}\0"))
    name = str(paths[1].relative_to(root))
    times = "2023-11-14T23:00:00Z", "2023-11-14T23:05:00Z"
    assert first.split() == ["recording", size, *times, name]
    assert second.split()[-1] == str(paths[2].relative_to(root))
    assert total == f"removed: 2 recordings and 0 events, {2 * int(size)} bytes"


def test_what_ends_or_begins_at_the_edge(purged: Callable[..., Outcome], root: Path) -> None:
    path = recording(root, 0)
    purged(300.001, HOUR)
    purged(-HOUR, 0)
    assert path.exists()
    purged(-HOUR, 0.001)
    assert not path.exists()


def test_a_recording_knows_when_it_began_whatever_its_name(
    purged: Callable[..., Outcome], root: Path
) -> None:
    keys = {"record": {"path": "{stream}.mp4"}}
    file = FragmentedMp4(root / "gate.mp4", PACKETS[0], f"{FROM_CAMERA}: gate")
    for packet in PACKETS:
        file.write(packet)
    file.close()
    os.utime(file.path, (NOON + 2, NOON + 2))
    assert purged(-HOUR, -1, keys=keys).out.endswith(
        "removed: 0 recordings and 0 events, 0 bytes\n"
    )
    assert purged(2.5, HOUR, keys=keys).code == 0
    assert file.path.exists()
    outcome = purged(1, HOUR, "--json", keys=keys)
    assert outcome.json["removed"][0]["begin"] == clock(0)[:19] + "Z"
    assert not file.path.exists()


def test_an_early_recording_without_a_time_in_its_name_may_have_begun_at_any_time(
    purged: Callable[..., Outcome], root: Path
) -> None:
    path = put(root / "gate.mp4", NOON, f"ftyp {FROM_CAMERA}\0".encode())
    keys = {"record": {"path": "{stream}.mp4"}}
    assert purged(1, HOUR, keys=keys).code == 0
    assert path.exists()
    outcome = purged(-9 * HOUR, -8 * HOUR, "--json", keys=keys)
    assert outcome.json["removed"][0]["begin"] == "unknown"
    assert not path.exists()


def test_events_are_cut_out_of_a_file_that_keeps_its_age_and_mode(
    purged: Callable[..., Outcome], root: Path
) -> None:
    path = events(root, 0, 1, 2, 3)
    path.chmod(0o640)
    outcome = purged(1, 3)
    assert path.read_bytes() == event(0) + event(3)
    status = path.stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (NOON + 3, 0o640)
    assert "2 events" in outcome.out.splitlines()[2]
    size = 2 * len(event(0))
    assert outcome.out.splitlines()[-1] == f"removed: 0 recordings and 2 events, {size} bytes"
    assert listed(root) == ["gate/2023-11-14-22.jsonl"]


def test_a_file_of_events_that_are_all_in_the_range_goes(
    purged: Callable[..., Outcome], root: Path
) -> None:
    events(root, 1, 2)
    events(root, 5, name="23")
    purged(0, 3)
    assert listed(root) == ["gate/2023-11-14-23.jsonl"]


@pytest.mark.parametrize(
    ("more", "goes"),
    [
        ({}, False),
        ({"first": clock(4)}, False),
        ({"first": clock(2)}, True),
        ({"first": clock(0)}, True),
        ({"dwell": 1.9}, False),
        ({"dwell": 2.1}, True),
        ({"dwell": 60}, True),
    ],
)
def test_an_event_that_tells_of_the_range_goes_although_it_was_written_later(
    purged: Callable[..., Outcome], root: Path, more: dict[str, Any], goes: bool
) -> None:
    """The end of a track names its beginning, and who leaves a zone for how long it was there."""
    line = event(5, **more)
    path = put(root / "gate/2023-11-14-22.jsonl", NOON + 5, event(0) + line)
    purged(1, 3)
    assert path.read_bytes() == event(0) + (b"" if goes else line)


def test_what_can_not_be_read_in_an_events_file_goes_with_the_rest(
    purged: Callable[..., Outcome], root: Path
) -> None:
    torn = b'{"stream": "gate", "frame": 7, "ti\n'
    wrong = event(2).replace(b"2023-11", b"2023-13")
    path = put(root / "gate/2023-11-14-22.jsonl", NOON + 5, event(0) + torn + wrong + event(5))
    purged(1, 3)
    assert path.read_bytes() == event(0) + event(5)


def test_a_hole_in_an_events_file_takes_no_memory(
    purged: Callable[..., Outcome], root: Path
) -> None:
    path = put(root / "gate/2023-11-14-22.jsonl", NOON + 5, event(0))
    with path.open("ab") as file:
        file.truncate(1 << 28)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + event(5))
    os.utime(path, (NOON + 5, NOON + 5))
    tracemalloc.start()
    try:
        purged(1, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == event(0) + event(5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    times=st.lists(st.integers(0, 20).map(float), min_size=1, max_size=12),
    begin=st.integers(-1, 20),
    length=st.integers(1, 20),
)
def test_of_any_events_those_in_the_range_go_and_no_others(
    tmp_path: Path, times: list[float], begin: int, length: int
) -> None:
    root = tmp_path / "out"
    root.mkdir(exist_ok=True)
    path = events(root, *times)
    source = {"source": "rtsp://192.0.2.1/s"}
    config = load(configuration(tmp_path, "centerface", gate=source))
    period = Range(NOON + begin, NOON + begin + length)
    found = purge(config, "gate", period, dry=True)
    assert path.read_bytes() == b"".join(map(event, times))
    assert purge(config, "gate", period, dry=False) == found
    left = [at for at in times if not begin <= at < begin + length]
    assert (path.read_bytes() if path.exists() else b"") == b"".join(map(event, left))
    assert sum(each.lines or 0 for each in found) == len(times) - len(left)
    assert purge(config, "gate", period, dry=False) == []


def test_a_dry_run_changes_nothing_and_says_the_same(
    purged: Callable[..., Outcome], root: Path
) -> None:
    recording(root, 0)
    events(root, 0, 1, HOUR)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    dry = purged(0, 2, "--dry-run")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    wet = purged(0, 2)
    assert "to be removed" in dry.out
    shown = [[line.split() for line in outcome.out.splitlines()[2:4]] for outcome in (dry, wet)]
    assert shown[0] == shown[1]
    assert dry.out.splitlines()[-1] == f"would be {wet.out.splitlines()[-1]}"


def test_what_is_of_others_stays(
    purged: Callable[..., Outcome], root: Path, tmp_path: Path
) -> None:
    elsewhere = recording(tmp_path / "elsewhere", 0)
    others = [
        recording(root, 0, "yard"),
        events(root, 0, stream="yard"),
        recording(root, 0, mark="by somebody else"),
        put(root / "gate/notes.txt", NOON, b"notes"),
        put(root / "gate/2023-11-14-23.jsonl", NOON, b"notes\n"),
        put(root / "gate.mp4", NOON, f"ftyp {FROM_CAMERA}".encode()),
        put(root / "gate/2023-11-14/23-00-00.mp4", NOON, f"ftyp {FROM_CAMERA}: yard\0".encode()),
        put(root / "gate/2023-11-14/23-00-01.mp4", NOON, f"ftyp {FROM_FILE}: gate\0".encode()),
    ]
    (root / "gate/2023-11-14/22-01-00.mp4").symlink_to(elsewhere)
    (root / "gate/2023-11-13").symlink_to(elsewhere.parent)
    os.mkfifo(root / "gate/2023-11-14/22-02-00.mp4")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(root / "gate/2023-11-14/22-03-00.mp4"))
    outcome = purged(-99 * HOUR, 99 * HOUR)
    assert outcome.out.endswith("removed: 0 recordings and 0 events, 0 bytes\n")
    assert outcome.code == 0
    assert elsewhere.exists()
    assert all(path.exists() for path in others)


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(
    purged: Callable[..., Outcome], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = recording(tmp_path / "elsewhere", 0)
    path = recording(root, 0)

    def swapped(*arguments: Any) -> Iterator[Any]:
        yield from list(walk(*arguments))
        path.parent.rename(root / "aside")
        path.parent.symlink_to(elsewhere.parent)

    monkeypatch.setattr(purge_module, "walk", swapped)
    outcome = purged(0, HOUR)
    assert elsewhere.exists()
    assert outcome.code == 1
    assert f"not removed: {path.relative_to(root)}: " in outcome.out


def test_a_recording_that_could_be_of_two_streams_is_left_and_named(
    purged: Callable[..., Outcome], root: Path
) -> None:
    keys = {"record": {"path": "{stream}.mp4"}}
    ours = put(root / "gate.mp4", NOON, f"ftyp {FROM_CAMERA}\0".encode())
    theirs = put(root / "gate-1.mp4", NOON, f"ftyp {FROM_CAMERA}\0".encode())
    outcome = purged(-HOUR, HOUR, keys=keys)
    assert outcome.code == 1
    why = "is not removed: by its name it may also be of gate-1"
    assert f"not removed: gate-1.mp4: {why}" in outcome.out
    assert (ours.exists(), theirs.exists()) == (False, True)
    put(root / "gate-1.mp4", NOON, f"ftyp {FROM_CAMERA}: gate\0".encode())
    assert purged(-HOUR, HOUR, keys=keys).code == 0
    assert not theirs.exists()


def test_files_of_a_stream_that_was_removed_can_be_purged(
    purged: Callable[..., Outcome], root: Path
) -> None:
    path = recording(root, 0, "yard")
    assert purged(0, HOUR, stream="yard").code == 0
    assert not path.exists()
    outcome = purged(0, HOUR, stream="yard")
    assert outcome.code == 78
    sentence = "yard: there is no such stream in the configuration, and no file of one under"
    assert outcome.err.startswith(f"centernetd: {sentence}")


@pytest.mark.parametrize(
    ("begin", "end", "sentence"),
    [
        ("yesterday", "2023-11-14", "--from yesterday: write a date and time, as in 2026-11-28T10"),
        ("2023-11-14", "2023-11-32", "--to 2023-11-32: write a date and time"),
        ("2023-11-14", "9999-12-31T23:00:00-23:00", "--to 9999-12-31T23:00:00-23:00: write a da"),
        ("0001-01-01T00:00:00", "2023-11-14", "--from 0001-01-01T00:00:00: write a date and time"),
        ("2023-11-14", "2023-11-14T00:00", "--from 2023-11-14 is not before --to 2023-11-14T00:00"),
        ("2023-11-14T11:00:00+01:00", "2023-11-14T10:00:00Z", "is not before"),
    ],
)
def test_a_range_that_is_none(
    cli: CommandLine, tmp_path: Path, begin: str, end: str, sentence: str
) -> None:
    config = configuration(tmp_path, "centerface", gate={"source": "rtsp://192.0.2.1/s"})
    outcome = cli("purge", "-c", config, "--stream", "gate", "--from", begin, "--to", end)
    assert outcome.code == 2
    assert sentence in " ".join(outcome.err.split())


def test_a_time_without_a_zone_is_local_and_covers_a_repeated_hour(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    config = configuration(tmp_path, "centerface", gate={"source": "rtsp://192.0.2.1/s"})
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        period = ("--from", "2023-10-29T02:30", "--to", "2023-10-29 02:30")
        outcome = cli("purge", "-c", config, "--stream", "gate", *period, "--json")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert (outcome.json["from"], outcome.json["to"]) == (
        "2023-10-29T00:30:00Z",
        "2023-10-29T01:30:00Z",
    )


def test_without_a_root(cli: CommandLine, tmp_path: Path) -> None:
    config = configuration(tmp_path, "centerface", gate={"source": "rtsp://192.0.2.1/s"})
    period = ("--from", "2023-11-14", "--to", "2023-11-15")
    outcome = cli("purge", "-c", config, "--stream", "gate", *period)
    assert outcome.code == 1
    assert "does not exist or is not a folder: is it mounted?" in outcome.err
    assert not (tmp_path / "out").exists()


DAEMON = """
import sys
from pathlib import Path
from centernetd.run.reload import ReloadStatus
from centernetd.sink.lockfile import LockFile

lock = LockFile(Path(sys.argv[1]))
lock.publish(ReloadStatus.of_this_process(follows=True).to_text())
files = [open(name, "ab") for name in sys.argv[2:]]
print("ready", flush=True)
input()
"""


@contextmanager
def daemon(root: Path, *files: Path) -> Iterator[None]:
    """Another process holds the root and appends to files, as a daemon does."""
    command = [sys.executable, "-c", DAEMON, str(root / LOCK_NAME), *map(str, files)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate("\n")


def test_what_a_running_daemon_writes_is_left_and_named(
    purged: Callable[..., Outcome], root: Path
) -> None:
    written = recording(root, 0)
    written = written.rename(part_of(written))
    done = [recording(root, 0), events(root, 0, HOUR, name="21")]
    log = events(root, 0, HOUR)
    whole = log.read_bytes()
    with daemon(root, log):
        outcome = purged(0, 1)
        assert outcome.code == 1
        why = "is being written: purge again once it is complete, or stop the daemon first"
        assert [line for line in outcome.out.splitlines() if line.startswith("not removed")] == [
            f"not removed: {written.relative_to(root)}: {why}",
            f"not removed: gate/{log.name}: {why}",
        ]
        assert not done[0].exists()
        assert done[1].read_bytes() == event(HOUR)
        assert log.read_bytes() == whole
        assert purged(HOUR + 1, HOUR + 2).code == 1, "a file being written has no end yet"
        assert purged(-HOUR, -1).code == 0
    assert purged(0, 1).code == 0
    assert not written.exists()
    assert log.read_bytes() == event(HOUR)


def test_no_daemon_starts_meanwhile(
    purged: Callable[..., Outcome], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(root):
        pass  # it has run

    def watched(*arguments: Any) -> Iterator[Any]:
        with pytest.raises(BlockingIOError):
            LockFile(root / LOCK_NAME)
        yield from walk(*arguments)

    monkeypatch.setattr(purge_module, "walk", watched)
    assert purged(0, HOUR).code == 0


def test_a_daemon_that_can_not_be_looked_into(purged: Callable[..., Outcome], root: Path) -> None:
    path = recording(root, 0)
    with closing(LockFile(root / LOCK_NAME)) as holder:
        holder.publish(ReloadStatus(2**22 + 1).to_text())
        outcome = purged(0, HOUR)
    assert outcome.code == 1
    assert f"(process {2**22 + 1}) writes to {root}, and which files it has open" in outcome.err
    assert path.exists()


def test_what_can_not_be_removed_is_named_and_the_rest_removed(
    purged: Callable[..., Outcome], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [recording(root, hour) for hour in (0, 1)]
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == paths[0].name:
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    outcome = purged(0, 2 * HOUR)
    assert outcome.code == 1
    assert f"not removed: {paths[0].relative_to(root)}: Operation not permitted" in outcome.out
    assert [path.exists() for path in paths] == [True, False]


def test_events_survive_a_disk_that_is_full(
    purged: Callable[..., Outcome], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = events(root, 0, 5)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = purged(0, 1)
    assert outcome.code == 1
    assert f"not removed: gate/{path.name}: No space left on device" in outcome.out
    assert path.read_bytes() == before
    assert listed(root) == [f"gate/{path.name}"]


def test_what_is_removed_is_off_the_disk_too(
    purged: Callable[..., Outcome], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recording(root, 0)
    synced: list[tuple[Path, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").resolve(), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    purged(0, HOUR)
    assert synced == [(path.parent, False)]

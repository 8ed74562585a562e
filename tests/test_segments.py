"""Where one file of packets ends and the next begins, and how often that may be."""

import logging
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from centernetd.config import RecordConfig
from centernetd.errors import SinkError
from centernetd.flow import Coding, Packet
from centernetd.sink.segments import (
    BURST,
    FROM_CAMERA,
    FROM_FILE,
    INTERVAL,
    TOO_OFTEN,
    RateLimit,
    Segments,
)
from tests.fakes import ManualClock
from tests.sinks import NOON, coded, decode, file_size_limit, sink_context

PACKETS = list(coded(100, 200))  # a key frame each second: packets 1, 6, 11, ...
OTHER = Coding("h264", 64, 48, b"other parameters")


class Site:
    """The segments of one stream, with what they report to."""

    def __init__(self, root: Path, segment: float | None = None, path: str = "gate.mp4") -> None:
        self.root, self.clock = root, ManualClock()
        context = sink_context(root, record=RecordConfig(path=path, segment=segment))
        self.storage, self.status = context.storage, context.status
        self.segments = Segments(context, self.clock)
        self.limit = self.segments._limit

    def write(self, *packets: Packet) -> int:
        """Do with packets what a recording does; returns how many were taken."""
        return sum(self._add(packet) for packet in packets)

    def _add(self, packet: Packet) -> bool:
        try:
            if self.segments.ends_before(packet):
                self.segments.finish()
            taken = self.segments.takes(packet)
            if taken:
                self.segments.write(packet)
        except SinkError:
            self.segments.abandon()
            raise
        return taken

    def files(self) -> list[int]:
        """Finish; the number of pictures of each file, in the order of their names."""
        self.segments.finish()
        names = sorted(self.root.rglob("*.mp4"), key=lambda path: (len(path.name), path.name))
        return [len(decode(path)) for path in names]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.segments.finish()


def at(packet: Packet, seconds: float) -> Packet:
    return replace(packet, wall_time=NOON + seconds)


def test_a_file_ends_where_the_clock_passes_a_multiple(tmp_path: Path) -> None:
    site = Site(tmp_path, segment=60.0)
    assert site.segments.due(NOON), "there is none yet"
    site.write(at(PACKETS[0], 30.0))
    due = {seconds: site.segments.due(NOON + seconds) for seconds in (0.0, 59.99, 60.0, -0.01)}
    assert due == {0.0: False, 59.99: False, 60.0: True, -0.01: True}
    site.write(*(at(packet, 60.0) for packet in PACKETS[1:7]))
    assert site.files() == [5, 2], "only a key frame begins one"


def test_without_a_length_the_clock_ends_nothing(site: Site) -> None:
    site.write(*(at(packet, 10_000.0 * packet.number) for packet in PACKETS[:20]))
    assert site.files() == [20]


def test_a_file_ends_when_it_is_large(site: Site) -> None:
    site.storage.largest = 20_000
    site.write(*PACKETS)
    files = site.files()
    assert sum(files) == 100
    assert len(files) > 2
    sizes = sorted(path.stat().st_size for path in site.root.iterdir())
    assert sizes[1] >= 20_000
    group = sizes[-1] // files[0] * 5
    assert sizes[-1] < 20_000 + 2 * group


def test_a_file_that_is_exactly_so_large_ends(site: Site) -> None:
    site.write(*PACKETS[:5])
    site.storage.largest = site.segments._file.size if site.segments._file else 0
    assert site.segments.due(NOON)
    site.storage.largest += 1
    assert not site.segments.due(NOON)


def test_another_coding_begins_a_file_at_its_key_frame(site: Site) -> None:
    assert site.write(*PACKETS[:3]) == 3
    changed = [replace(packet, coding=OTHER) for packet in PACKETS[3:7]]
    assert not site.segments.ends_before(changed[0])
    assert site.write(*changed) == 4
    assert site.files() == [5, 2]


@pytest.mark.parametrize("missing", [2, 5])
def test_a_gap_ends_the_file_and_a_key_frame_begins_the_next(site: Site, missing: int) -> None:
    site.write(*PACKETS[:missing])
    rest = PACKETS[missing + 1 : 15]
    assert site.segments.ends_before(rest[0])
    until = 5 if missing < 5 else 10
    assert site.write(*rest) == 15 - until
    assert site.files() == [missing, 15 - until]


def test_nothing_ends_before_it_has_begun(site: Site) -> None:
    assert site.segments.finish() == 0
    for packet in PACKETS[:6]:
        assert not site.segments.ends_before(packet)
        assert site.segments.takes(packet) == packet.is_keyframe


def test_what_is_reported(tmp_path: Path) -> None:
    site = Site(tmp_path, path="{stream}/a.mp4")
    safe = [site.segments.write(packet) for packet in PACKETS[:6]]
    assert safe == sorted(safe)
    assert 0 < safe[-1] < 6
    part = tmp_path / "gate/a.mp4.part"
    assert site.status.output == str(tmp_path / "gate/a.mp4")
    assert site.storage.writing == {part}
    assert site.status.bytes_written == part.stat().st_size
    assert site.status.segments == 0
    assert site.segments.finish() == 6
    assert site.status.bytes_written == (tmp_path / "gate/a.mp4").stat().st_size
    assert site.status.segments == 1
    assert site.storage.writing == set()
    assert site.storage.take_completed() == [tmp_path / "gate/a.mp4"]
    assert FROM_CAMERA.encode() in (tmp_path / "gate/a.mp4").read_bytes()
    site.segments.write(PACKETS[10])
    assert site.status.output == str(tmp_path / "gate/a-1.mp4")
    (tmp_path / "gate/a-1.mp4").touch()  # it came while we wrote
    site.segments.finish()
    assert site.status.output == str(tmp_path / "gate/a-2.mp4")
    assert site.status.segments == 2


def test_a_failure_completes_the_file_and_counts_what_was_written(site: Site) -> None:
    site.write(*PACKETS[:6])
    file = site.root / "gate.mp4.part"
    limit = file.stat().st_size + 100
    with file_size_limit(limit), pytest.raises(SinkError):
        site.write(*PACKETS[6:])
    assert site.status.bytes_written == limit, "the disk took so much"
    assert site.storage.writing == set()
    assert site.storage.take_completed() == [site.root / "gate.mp4"]
    assert site.status.segments == 1
    assert site.write(*PACKETS[11:20]) == 5, "from the key frame 16 on"
    assert site.files()[1:] == [5]


def test_after_a_failure_the_output_is_the_last_file_that_was_kept(site: Site) -> None:
    first, second = str(site.root / "gate.mp4"), str(site.root / "gate-1.mp4")
    reported = []
    for room in (10, None, 10, 30_000, 10):
        limit = nullcontext() if room is None else file_size_limit(room)
        with limit, suppress(SinkError):
            site.write(*PACKETS[5:])
            site.segments.finish()
        reported.append(site.status.output)
    assert reported == [None, first, first, second, second]
    assert {str(path) for path in site.root.iterdir()} == {first, second}


def test_a_file_without_a_picture_that_fails_is_not_counted(site: Site) -> None:
    with file_size_limit(10), pytest.raises(SinkError):
        site.write(*PACKETS)
    assert site.status.segments == 0
    assert site.storage.writing == set()
    assert site.storage.take_completed() == []
    assert not list(site.root.iterdir())


def test_a_failure_at_the_end_completes_the_file(site: Site) -> None:
    site.write(*PACKETS[:9])
    size = (site.root / "gate.mp4.part").stat().st_size
    with file_size_limit(size), pytest.raises(SinkError):
        site.segments.finish()
    with file_size_limit(size):
        site.segments.abandon()
    assert site.storage.writing == set()
    assert site.status.segments == 1
    assert site.segments.finish() == 0
    assert 0 < site.files()[0] < 9


def test_nothing_is_begun_or_gone_on_with_while_there_is_trouble(site: Site) -> None:
    site.storage.status.trouble = "the disk is full"
    with pytest.raises(SinkError, match="the disk is full"):
        site.write(PACKETS[0])
    assert not list(site.root.iterdir())
    assert site.limit._used_until <= site.clock.now
    site.storage.status.trouble = None
    site.write(*PACKETS[:5])
    site.storage.status.trouble = "the disk is full"
    with pytest.raises(SinkError, match="the disk is full"):
        site.write(PACKETS[5])
    assert site.storage.writing == set()


def test_a_file_whose_place_is_just_being_deleted_is_put_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise SinkError("it is being deleted")

    monkeypatch.setattr(site.storage, "begin", refuse)
    with pytest.raises(SinkError, match="being deleted"):
        site.write(PACKETS[0])
    assert not list(site.root.iterdir())
    assert site.segments.takes(PACKETS[0])


def changing() -> list[Packet]:
    """Key frames only, of which each has other parameters than the one before."""
    keys = [packet for packet in PACKETS if packet.is_keyframe]
    codings = (PACKETS[0].coding, OTHER)
    return [
        replace(keys[number % len(keys)], number=number + 1, coding=codings[number % 2])
        for number in range(100)
    ]


def test_files_begin_once_a_second_however_often_the_coding_changes(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    packets = changing()
    assert site.write(*packets[:50]) == BURST
    assert set(caplog.messages) == {TOO_OFTEN}
    assert {getattr(record, "stream", None) for record in caplog.records} == {"gate"}
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    site.clock.now += INTERVAL - 0.01
    assert site.write(packets[50]) == 0
    site.clock.now += 0.01
    assert site.write(*packets[51:80]) == 1
    assert len(site.files()) == BURST + 1


def test_files_that_fail_count_as_begun(tmp_path: Path) -> None:
    site = Site(tmp_path, path="{stream}/a.mp4")
    (tmp_path / "gate").touch()
    for packet in changing()[:BURST]:
        with pytest.raises(SinkError):
            site.write(packet)
    assert site.write(*changing()[BURST:]) == 0


def test_the_old_file_is_continued_where_no_new_one_is_needed(tmp_path: Path) -> None:
    site = Site(tmp_path, segment=1.0)
    for _ in range(BURST - 1):
        site.limit.begin()
    assert site.write(*(at(packet, packet.number) for packet in PACKETS[:60])) == 60
    assert not site.segments.due(NOON + 100)
    site.clock.now += BURST * INTERVAL
    assert site.segments.due(NOON + 100)
    assert site.write(*(at(packet, packet.number) for packet in PACKETS[60:])) == 40
    assert len(site.files()) > 2


def test_no_key_frame_is_asked_for_before_a_file_may_begin(site: Site) -> None:
    for _ in range(BURST):
        assert site.segments.may_begin
        site.limit.begin()
    assert not site.segments.may_begin
    assert not site.segments.due(NOON)


def test_a_burst_of_ten_and_then_one_per_second() -> None:
    clock = ManualClock()
    limit = RateLimit(clock=clock)
    begun = []
    for tick in range(2000):
        clock.now = 1000.0 + tick / 10
        while limit.allowed:
            limit.begin()
            begun.append(tick)
    assert begun == [*[0] * BURST, *range(10, 2000, 10)]


def test_another_burst_after_a_pause_only() -> None:
    clock = ManualClock()
    limit = RateLimit(clock=clock)
    for pause, allowed in ((0.0, BURST), (BURST / 2, BURST // 2), (BURST, BURST), (1e6, BURST)):
        clock.now += pause * INTERVAL
        begun = 0
        while limit.allowed:
            limit.begin()
            begun += 1
        assert begun == allowed


def test_a_file_as_source_is_never_held_back() -> None:
    limit = RateLimit(limited=False, clock=ManualClock())
    for _ in range(1000):
        assert limit.allowed
        limit.begin()


@pytest.mark.parametrize("from_file", [True, False])
def test_a_recording_shows_whether_a_camera_or_a_file_was_the_source(
    tmp_path: Path, *, from_file: bool
) -> None:
    """Only what a camera sent may be deleted to make room."""
    record = RecordConfig(path="a.mp4", segment=None)
    segments = Segments(sink_context(tmp_path, from_file=from_file, record=record), ManualClock())
    segments.write(PACKETS[0])
    segments.finish()
    content = (tmp_path / "a.mp4").read_bytes()
    assert (FROM_FILE.encode() in content) == from_file
    assert (FROM_CAMERA.encode() in content) != from_file


def test_the_root_is_not_left(tmp_path: Path) -> None:
    site = Site(tmp_path / "root", path="{stream}/a.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/gate").symlink_to(tmp_path)
    with pytest.raises(SinkError, match="leads out"):
        site.write(PACKETS[0])


def test_a_hidden_key_frame_begins_a_file_and_other_hidden_packets_go_on(site: Site) -> None:
    site.write(*PACKETS[:3])
    assert not site.segments.ends_before(replace(PACKETS[3], hidden=True))
    assert site.write(PACKETS[3], PACKETS[4]) == 2
    assert not site.segments.ends_before(PACKETS[5])
    assert site.segments.ends_before(replace(PACKETS[5], hidden=True))


def test_only_a_key_frame_that_has_no_file_is_logged(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(BURST):
        site.limit.begin()
    assert site.write(*PACKETS[1:5]) == 0
    assert caplog.messages == []
    assert site.write(PACKETS[5]) == 0
    assert caplog.messages == [TOO_OFTEN]


def test_without_a_period_no_time_ends_a_file(site: Site) -> None:
    site.write(*PACKETS[:2])
    assert not any(site.segments.due(NOON + day * 86_400) for day in range(40))


def test_pictures_lead_a_key_frame_that_follows_their_file_without_a_gap(site: Site) -> None:
    late = replace(PACKETS[5], pts=PACKETS[5].dts + 1)
    assert not site.segments.may_lead(late), "there is no file yet"
    site.write(*PACKETS[:5])
    assert site.segments.may_lead(late)
    for other in (
        replace(late, number=late.number - 1),
        replace(late, number=late.number + 1),
        replace(late, hidden=True),
        replace(late, coding=OTHER),
        replace(late, pts=late.dts),
    ):
        assert not site.segments.may_lead(other)

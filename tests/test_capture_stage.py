"""The capture stage between fake sources and a real lane."""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.capture.lease import Lease
from centernetd.capture.open import open_stream
from centernetd.capture.source import Picture
from centernetd.capture.stage import Backoff
from centernetd.config.sections import Policy
from centernetd.errors import EngineError, SourceError
from centernetd.flow import CAPTURE, HostImage, Incident, Reason, StreamState
from tests import clips
from tests.capture_rig import Rig
from tests.fakes import (
    TIME_BASE,
    WAIT_TIMEOUT,
    FakeSource,
    image,
    picture,
    wait_until,
)

FILE, LIVE = "/videos/clip.mp4", "rtsp://user:hunter2@camera/1"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "after", lambda _backoff, _took: 0.0)


def test_a_file_is_read_once_and_ends() -> None:
    rig = Rig(FILE, FakeSource([picture(n * 40) for n in range(5)])).run()
    assert rig.take() == [(n, n * 40) for n in range(5)]
    status = rig.lane.status
    assert (status.failed, status.last_error) == (False, None)
    assert (status.codec, status.decoder, status.total_frames) == ("fake", "fakedec", 5)
    assert rig.meters.stages == ["decode"] * 5
    assert rig.lane.ledger.read().captured == 5


def test_a_decoder_that_is_given_up_is_not_reported_any_longer() -> None:
    source = FakeSource([])

    def decode_in_software() -> None:
        source.info = replace(source.info, decoder="software")

    source._script = [picture(0), decode_in_software, picture(40)]
    assert Rig(FILE, source).run().lane.status.decoder == "software"


def test_frames_carry_the_files_time_base_and_the_time_of_their_capture() -> None:
    rig = Rig(FILE, FakeSource([picture(7)])).run()
    frame = rig.lane.take()
    assert frame is not None
    assert frame.time_base == TIME_BASE
    assert frame.time == pytest.approx(0.007)
    assert frame.captured_at == rig.lane.status.last_frame_at
    assert frame.wall_time > 1.7e9


def test_a_file_that_cannot_be_opened_fails(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(FILE, SourceError("can't be opened: no such file", "open_failed")).run()
    assert rig.lane.status.failed
    assert rig.lane.status.last_error == "can't be opened: no such file"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"{FILE}: can't be opened: no such file"


def test_a_file_without_a_picture_fails(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(FILE, FakeSource([])).run()
    assert rig.lane.status.failed
    assert "contains no picture" in caplog.text


def test_of_a_truncated_file_what_is_readable_counts(caplog: pytest.LogCaptureFixture) -> None:
    cut = SourceError("reading stopped: end of file")
    rig = Rig(FILE, FakeSource([picture(0), picture(40), cut])).run()
    assert rig.take() == [(0, 0), (1, 40)]
    assert not rig.lane.status.failed
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "only the first 2 frames are readable" in warnings[0].getMessage()


def test_damage_is_reported_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(FILE, FakeSource([picture(0)], damaged=3)).run()
    assert f"{FILE}: 3 damaged packets or pictures were skipped" in caplog.text
    assert rig.lane.status.damaged == 3


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([FakeSource([picture(0)])], "ended"),
        ([FakeSource([picture(0), SourceError("reading stopped")])], "read_failed"),
        ([FakeSource([picture(0), SourceError("nothing came", "stalled")])], "stalled"),
        ([SourceError("can't be opened", "open_failed")], "open_failed"),
        ([FakeSource([])], "read_failed"),
    ],
    ids=["end", "error", "stall", "no opening", "no picture"],
)
def test_a_live_source_is_opened_anew_and_the_reason_counted(
    steps: list[FakeSource | SourceError], reason: str
) -> None:
    rig = Rig(LIVE, *steps)
    before = sum(isinstance(step, FakeSource) and bool(step._script) for step in steps)
    rig.openings._steps += [FakeSource([picture(500), picture(540), rig.stop.set])]
    rig.run()
    taken = rig.take()
    assert [frame_id for frame_id, _ in taken] == [*range(before + 2)]
    assert taken[-1][1] - taken[-2][1] == 40 * 90
    reconnects = rig.lane.status.reconnects
    assert {name: n for name, n in reconnects.items() if n} == {reason: 1}
    assert not rig.lane.status.failed


def test_a_fault_while_reading_is_a_failed_reading_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fault() -> None:
        raise ZeroDivisionError

    rig = Rig(LIVE, *(FakeSource([picture(0), fault]) for _ in range(3)))
    rig.openings._steps += [FakeSource([picture(500), rig.stop.set])]
    rig.run()
    assert [frame_id for frame_id, _ in rig.take()] == [0, 1, 2, 3]
    assert rig.lane.status.reconnects["read_failed"] == 3
    assert caplog.text.count("Traceback") == 1, "a repetition is not logged in full"


def test_a_return_is_logged_where_its_failure_was(caplog: pytest.LogCaptureFixture) -> None:
    """Also where the last of several tries was not logged, being the same again."""
    caplog.set_level(logging.INFO)
    rig = Rig(LIVE, *(SourceError("can't be opened", "open_failed") for _ in range(4)))
    rig.openings._steps += [
        FakeSource([picture(0)]),
        FakeSource([picture(0), rig.stop.set]),
    ]
    rig.run()
    logged = [record.getMessage() for record in caplog.records]
    failures = [line for line in logged if "can't be opened" in line]
    assert len(failures) == 1, "the same is logged once a minute"
    assert len([line for line in logged if line.startswith("running: ")]) == 2, logged
    assert (
        rig.lane.status.lost_connections,
        rig.lane.status.reconnects["open_failed"],
    ) == (
        1,
        4,
    )


def test_that_sound_is_dropped_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(LIVE, *(FakeSource([picture(0)], has_sound=sound) for sound in (True, True)))
    rig.openings._steps += [FakeSource([picture(0), rig.stop.set])]
    rig.run()
    assert caplog.text.count("its sound is not recorded") == 1


def test_a_stream_is_reconnecting_until_its_first_picture() -> None:
    states: list[StreamState] = []
    rig = Rig(LIVE, SourceError("can't be opened", "open_failed"))
    rig.openings._steps += [
        FakeSource(
            [
                lambda: states.append(rig.status),
                picture(0),
                lambda: states.append(rig.status),
                rig.stop.set,
            ]
        )
    ]
    assert rig.status is StreamState.CONNECTING
    rig.run()
    assert states == [StreamState.RECONNECTING, StreamState.RUNNING]
    assert rig.lane.status.last_error is None


def test_a_password_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(LIVE, SourceError("can't be opened", "open_failed"))
    rig.openings._steps += [rig.stop.set]
    rig.run()
    assert "can't be opened; next try in" in caplog.text
    assert "hunter2" not in caplog.text
    assert all(record.stream == "cam" for record in caplog.records)  # type: ignore[attr-defined]


def test_the_waits_grow_until_a_picture_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def doubled(backoff: Backoff, took: float) -> float:
        assert took >= 0
        backoff._wait *= 2
        return backoff._wait

    monkeypatch.setattr(Backoff, "after", doubled)
    refused = SourceError("can't be opened", "open_failed")
    rig = Rig(LIVE, refused, refused, FakeSource([picture(0)]), refused)
    rig.openings._steps += [rig.stop.set]

    def wait(timeout: float | None = None) -> bool:
        assert timeout is not None
        waits.append(timeout)
        return rig.stop.is_set()

    monkeypatch.setattr(rig.stop, "wait", wait)
    rig.run()
    assert waits == [1.0, 2.0, 1.0, 2.0]


def test_a_stop_cuts_the_wait_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "after", lambda _backoff, _took: 1e6)
    rig = Rig(LIVE, SourceError("can't be opened", "open_failed"))
    running = threading.Thread(target=rig.run, daemon=True)
    running.start()
    wait_until(lambda: rig.status is StreamState.RECONNECTING)
    rig.stop.set()
    running.join(WAIT_TIMEOUT)
    assert not running.is_alive()
    assert rig.openings.tries == 1


def test_a_stop_ends_a_file_in_the_middle() -> None:
    rig = Rig(FILE)
    rig.openings._steps += [FakeSource([picture(0), rig.stop.set, picture(40), picture(80)])]
    rig.run()
    assert rig.take() == [(0, 0)]
    assert not rig.lane.status.failed


def test_a_late_live_source_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pass_time(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    late = FakeSource([picture(0), pass_time(4.9), picture(10), pass_time(0.2), picture(20)])
    rig = Rig(LIVE, late, policy="live", stall_timeout=5.0)
    rig.openings._steps += [FakeSource([picture(0), rig.stop.set])]
    rig.run()
    assert rig.lane.status.reconnects["lagging"] == 1
    assert rig.lane.status.source_lag == 0.0
    assert rig.lane.ledger.read().captured == 4, "the one that came too late is counted too"
    assert "more than 5 s late" in caplog.text


def sent(
    clock: list[float], stamped: float, every: float, seconds: float, busy: float = 0.0
) -> list[Picture | SourceError | Callable[[], None]]:
    """Return pictures that come ``every`` s of a clock and are stamped at another interval.

    A share of that time is ``busy`` with decoding them.
    """
    script: list[Picture | SourceError | Callable[[], None]] = []
    for n in range(round(seconds / every)):
        script.append(replace(picture(round(n * stamped * 1000)), decode_seconds=busy * every))
        script.append(lambda: clock.__setitem__(0, clock[0] + every))
    return script


@pytest.mark.parametrize("policy", ["live", "lossless"])
@pytest.mark.parametrize("stamped", [0.0, 0.0001, 0.1, 0.18, 0.21, 0.4, 30.0])
def test_a_camera_whose_stamps_do_not_keep_pace_stays_connected_and_is_timed_by_arrival(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stamped: float,
    policy: Policy,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rig = Rig(LIVE, policy=policy, max_fps=1)
    rig.openings._steps += [FakeSource([*sent(now, stamped, 0.2, 400), rig.stop.set])]
    rig.run()
    assert sum(rig.lane.status.reconnects.values()) == 0
    assert rig.lane.status.source_lag < 5
    if 0.1 <= stamped < 1:
        assert caplog.text.count("timed by arrival instead") == 1
    if policy == "lossless":
        seconds = [pts / 90_000 for _, pts in rig.take()][-100:]
        assert seconds[-1] - seconds[0] == pytest.approx(99, abs=2)


def test_a_machine_that_is_too_slow_to_decode_is_late_whatever_the_stamps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rig = Rig(LIVE, policy="live")
    script = [*sent(now, 0.16, 0.2, 60, busy=0.95), rig.stop.set]
    rig.openings._steps += [FakeSource(script), FakeSource([picture(0), rig.stop.set])]
    rig.run()
    assert rig.lane.status.reconnects["lagging"] == 1


def test_a_stream_may_be_timed_by_arrival_from_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rig = Rig(LIVE, timestamps="arrival")
    rig.openings._steps += [FakeSource([*sent(now, 0.1, 0.2, 2), rig.stop.set])]
    rig.run()
    assert [pts for _, pts in rig.take()] == [n * 18_000 for n in range(10)]
    assert "timed by arrival" not in caplog.text


def test_what_was_held_back_and_why_is_reported_apart_from_damage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(LIVE, FakeSource([picture(0)], damaged=5, held_back=3))
    rig.openings._steps += [FakeSource([picture(0)], damaged=7, held_back=7), rig.stop.set]
    rig.run()
    logged = [record.getMessage() for record in caplog.records if "pictures were" in record.message]
    assert "2 damaged packets or pictures were skipped" in logged[0]
    assert "3 pictures were held back: no key frame or recovery point" in logged[1]
    assert rig.lane.status.damaged == 12
    assert len(logged) == 2


def test_a_file_that_hangs_is_stuck_and_keeps_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    rig = Rig("/etc/hostname", stall_timeout=10.0)
    rig.stage._lease = lease = Lease(lambda: now[0])
    lease.wait()
    for seconds in (8.9, 9.1, 14.9):
        now[0] = seconds
        assert not rig.stage.watch()
        assert rig.status is not StreamState.STUCK
    for seconds in (15.0, 30.0, 90.0):
        now[0] = seconds
        assert not rig.stage.watch()
        assert rig.status is StreamState.STUCK
    assert caplog.messages == [
        "/etc/hostname: stuck: the library that reads it has not returned for 15 s"
    ]
    assert rig.lane.status.last_error == ("the library that reads it has not returned for 15 s")


def test_a_lossless_lane_holds_the_source_back_and_loses_nothing() -> None:
    rig = Rig(FILE, FakeSource([picture(n) for n in range(20)]), depth=3)
    running = threading.Thread(target=rig.run, daemon=True)
    running.start()
    wait_until(lambda: rig.lane.waiting == 3 and bool(rig.lane._room._waiters))  # type: ignore[attr-defined]
    taken: list[tuple[int, int]] = []
    while running.is_alive() or rig.lane.waiting:
        taken += rig.take()
        running.join(0.001)
    assert [frame_id for frame_id, _ in taken] == list(range(20))
    assert rig.lane.ledger.read().captured == 20


def test_a_capture_that_waits_for_room_ends_when_the_lane_closes() -> None:
    rig = Rig(FILE, FakeSource([picture(n) for n in range(20)]), depth=3)
    running = threading.Thread(target=rig.run, daemon=True)
    running.start()
    wait_until(lambda: bool(rig.lane._room._waiters))  # type: ignore[attr-defined]
    rig.stop.set()
    rig.lane.close()
    running.join(WAIT_TIMEOUT)
    assert not running.is_alive()
    assert [frame_id for frame_id, _ in rig.take()] == [0, 1, 2]
    assert rig.lane.ledger.read().captured == 3


def test_a_live_lane_goes_on_decoding_and_keeps_the_newest() -> None:
    rig = Rig(LIVE, policy="live")
    rig.openings._steps += [FakeSource([*(picture(n) for n in range(20)), rig.stop.set])]
    rig.run()
    assert [frame_id for frame_id, _ in rig.take()] == [18, 19]
    assert rig.lane.ledger.read().dropped[CAPTURE, Reason.OVERFLOW] == 18


def test_frames_above_max_fps_are_counted_as_unwanted() -> None:
    rig = Rig(FILE, FakeSource([picture(n * 40) for n in range(25)]), max_fps=5).run()
    assert len(rig.take()) == 5
    assert rig.lane.ledger.read().dropped[CAPTURE, Reason.UNWANTED] == 20


def test_a_file_as_live_is_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(FILE, FakeSource([picture(n * 1000) for n in range(4)]), policy="live")
    waits: list[float] = []
    monkeypatch.setattr(rig.stop, "wait", lambda timeout: waits.append(timeout))
    rig.run()
    assert waits == pytest.approx([1, 2, 3], abs=0.5)


def test_a_real_file_from_end_to_end(tmp_path: Path) -> None:
    path = clips.count(tmp_path / "a.ts", 12)
    rig = Rig(str(path))
    rig.stage._opener = open_stream
    rig.run()
    taken = rig.take()
    assert [frame_id for frame_id, _ in taken] == list(range(12))
    assert {b - a for (_, a), (_, b) in itertools.pairwise(taken)} == {3600}


def test_the_first_picture_of_a_stream_is_logged_and_each_return_after_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    Rig(FILE, FakeSource([picture(0, 48, 64), picture(40, 48, 64)])).run()
    assert caplog.messages == ["running: fakedec, 64x48"]


def test_a_live_source_stalls_shortly_before_its_timeout_and_is_lost_five_seconds_behind() -> None:
    now = [0.0]
    rig = Rig(LIVE, stall_timeout=10.0)
    rig.lane.status.state = StreamState.RUNNING
    rig.stage._lease = lease = Lease(lambda: now[0])
    assert not rig.stage.watch()
    lease.wait()
    for seconds, state in [
        (8.9, StreamState.RUNNING),
        (9.0, StreamState.RECONNECTING),
        (14.9, StreamState.RECONNECTING),
    ]:
        now[0] = seconds
        assert not rig.stage.watch()
        assert rig.status is state
    assert rig.lane.status.last_error == "no picture for 10 s"
    assert rig.lane.status.lost_connections == 1
    now[0] = 15.0
    assert rig.stage.watch(), "another thread is wanted"
    assert rig.status is StreamState.STUCK
    reconnects = rig.lane.status.reconnects
    assert {reason: n for reason, n in reconnects.items() if n} == {"stalled": 1, "stuck": 1}
    assert rig.lane.status.lost_connections == 1, "it was lost once"
    assert not rig.stage.watch(), "the new turn has just begun"


def test_a_connection_whose_thread_is_lost_is_lost() -> None:
    now = [0.0]
    rig = Rig(LIVE, stall_timeout=10.0)
    rig.lane.status.state = StreamState.RUNNING
    rig.stage._lease = lease = Lease(lambda: now[0])
    lease.wait()
    now[0] = 15.0
    assert rig.stage.watch()
    assert rig.lane.status.lost_connections == 1
    rig.stage._lease = lease = Lease(lambda: now[0])
    lease.wait()
    now[0] = 30.0
    assert rig.stage.watch()
    assert rig.lane.status.lost_connections == 1, "there was none"
    assert rig.lane.status.reconnects["stuck"] == 2


def complete(source: FakeSource) -> FakeSource:
    source.info = replace(source.info, complete=True)
    return source


def test_a_playlist_that_is_complete_is_read_once_and_ends() -> None:
    rig = Rig(LIVE, complete(FakeSource([picture(0), picture(40)]))).run()
    assert rig.openings.tries == 1
    assert len(rig.take()) == 2
    assert sum(rig.lane.status.reconnects.values()) == 0


def test_a_live_playlist_that_was_completed_meanwhile_is_waited_for() -> None:
    rig = Rig(LIVE, FakeSource([picture(0)]), complete(FakeSource([picture(0)])))
    rig.openings._steps += [rig.stop.set]
    rig.run()
    assert len(rig.take()) == 1, "what was seen isn't read again"
    assert rig.lane.status.reconnects["ended"] == 2


def test_damage_is_counted_while_the_source_is_read() -> None:
    seen: list[int] = []
    rig = Rig(LIVE, FakeSource([picture(0)], damaged=2))
    rig.openings._steps += [
        FakeSource([picture(0), lambda: seen.append(rig.lane.status.damaged)], damaged=3),
        rig.stop.set,
    ]
    rig.run()
    assert seen == [5]
    assert rig.lane.status.damaged == 5


def test_how_long_a_try_took_counts_from_its_beginning_or_its_last_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, took = [100.0], list[float]()

    def after(_: Backoff, seconds: float) -> float:
        took.append(seconds)
        return 0.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Backoff, "after", after)

    def pass_time(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    rig = Rig(LIVE, pass_time(7.0), FakeSource([picture(0), pass_time(50.0)]))
    rig.openings._steps += [rig.stop.set]
    rig.run()
    assert took == [7.0, 0.0]


def test_what_keeps_failing_is_logged_once_a_minute_with_its_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    refused = SourceError("can't be opened", "open_failed")
    rig = Rig(LIVE, refused, refused)
    rig.stage._failures = Incident(60.0, lambda: now[0])
    rig.openings._steps += [lambda: now.__setitem__(0, now[0] + 60), refused, rig.stop.set]
    rig.run()
    camera = "rtsp://***@camera/1"
    assert caplog.messages == [
        f"{camera}: can't be opened; next try in 0.0 s",
        f"{camera}: stopped meanwhile; next try in 0.0 s",
        f"{camera}: can't be opened (2 times); next try in 0.0 s",
    ]


def test_what_is_being_read_is_closed_whatever_goes_wrong() -> None:
    def fault() -> None:
        raise ZeroDivisionError

    rig = Rig(FILE, FakeSource([fault])).run()
    assert rig.openings.opened[0].closed == 1
    assert rig.lane.status.last_error == "a fault while reading: ZeroDivisionError"


def test_pictures_that_no_key_frame_preceded_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Rig(FILE, FakeSource([picture(0)], damaged=3, held_back=3)).run()
    assert caplog.messages == [
        f"{FILE}: 3 pictures were held back: no key frame or recovery point yet"
    ]


def test_a_return_from_what_was_not_logged_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(LIVE, *(FakeSource([picture(0)]) for _ in range(4)))
    rig.openings._steps += [FakeSource([picture(0), rig.stop.set])]
    rig.run()
    logged = [message.split()[1] for message in caplog.messages]
    assert logged == ["fakedec,", "the", "fakedec,"], "running, the source ended, running"


def test_a_gpu_that_fails_with_a_picture_is_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Lost(HostImage):
        def lines(self, step: int) -> NDArray[np.uint8]:
            raise EngineError("cudaMemcpy2D failed")

    lost = Picture(Lost(image()), 0, TIME_BASE, 0.0)
    rig = Rig(LIVE, FakeSource([lost]))
    rig.openings._steps.append(rig.stop.set)
    rig.run()
    assert "cudaMemcpy2D failed; next try in" in caplog.text
    assert "fault" not in caplog.text

"""The judgements of health and readiness, and the rates of streams."""

import time

import pytest

from centernetd.flow import StorageStatus, StreamState
from centernetd.service.health import (
    NOT_LOADED,
    STORAGE_HUNG,
    Heartbeats,
    Verdict,
    health,
    readiness,
)
from centernetd.service.status import Rates
from tests.test_pages import FakeClock, stream


def test_idle_inference_is_healthy() -> None:
    clock = FakeClock()
    heartbeats = Heartbeats(clock)
    for _ in range(100):
        clock.now += 1
        heartbeats.tick({"faces": 0})
    clock.now += 1
    heartbeats.tick({"faces": 1})  # the first frame in 100 s: inference had no reason to beat
    assert health(True, heartbeats, StorageStatus()) == Verdict(True)


def test_slow_inference_is_healthy() -> None:
    clock = FakeClock()
    heartbeats = Heartbeats(clock)
    for _ in range(20):
        clock.now += 9
        heartbeats.beat("faces", 0.0)
        heartbeats.tick({"faces": 1})
    assert health(True, heartbeats, StorageStatus()) == Verdict(True)


@pytest.mark.parametrize(("took", "limit"), [(0.05, 9), (10.0, 30)])
def test_a_batch_may_take_a_multiple_of_what_batches_took(took: float, limit: int) -> None:
    clock = FakeClock()
    heartbeats = Heartbeats(clock)
    heartbeats.beat("faces", took)
    clock.now += limit
    heartbeats.tick({"faces": 3})
    assert health(True, heartbeats, StorageStatus()) == Verdict(True)
    clock.now += 1
    heartbeats.tick({"faces": 3})
    trouble = f"inference has made no progress for {limit + 1}.0 s while 3 frames wait for faces"
    assert health(True, heartbeats, StorageStatus()) == Verdict(False, (trouble,))
    for _ in range(16):  # a slow batch is forgotten
        heartbeats.beat("faces", 0.05)
    clock.now += 9.5
    heartbeats.tick({"faces": 3})
    assert not health(True, heartbeats, StorageStatus()).ok


def test_only_what_is_loaded_can_hang() -> None:
    clock = FakeClock()
    heartbeats = Heartbeats(clock)
    clock.now += 100
    assert health(False, heartbeats, StorageStatus()) == Verdict(False, (NOT_LOADED,))


def test_a_disk_that_hangs_is_reported_and_no_reason_to_be_restarted() -> None:
    assert health(True, Heartbeats(), StorageStatus(hung=True)) == Verdict(True, (STORAGE_HUNG,))


def test_a_hung_supervisor_is_unhealthy() -> None:
    clock = FakeClock()
    heartbeats = Heartbeats(clock)
    clock.now += 11
    verdict = health(True, heartbeats, StorageStatus())
    assert verdict == Verdict(False, ("the supervisor has made no progress for 11.0 s",))


def test_readiness() -> None:
    now = time.monotonic()
    assert readiness(True, [stream("gate")], now) == Verdict(True)
    assert readiness(False, [stream("gate")], now) == Verdict(False, (NOT_LOADED,))
    assert readiness(True, [], now) == Verdict(False, ("there is no stream",))
    connecting = stream("gate", state=StreamState.CONNECTING)
    asked_at = connecting.lane.status.last_frame_at + 3
    assert readiness(True, [connecting], asked_at).reasons == ("gate: connecting for 3.0 s",)
    connecting.lane.status.state = StreamState.RECONNECTING
    assert readiness(True, [connecting], asked_at).reasons == ("gate: reconnecting for 3.0 s",)


def test_a_stalled_stream_is_not_ready_before_capture_reports_it() -> None:
    view = stream("gate")
    view.lane.skip()
    last = view.lane.status.last_frame_at
    assert readiness(True, [view], last + 10.0).ok
    verdict = readiness(True, [view], last + 10.5)
    assert verdict == Verdict(False, ("gate: running, last frame 10.5 s ago",))


def test_rates_forget_what_is_old_or_gone() -> None:
    rates, lane = Rates(), stream("gate").lane
    assert rates.fps("gate") == 0.0
    for second in range(20):
        rates.tick([lane], now=float(second))
        assert rates.fps("gate") == 0.0
    lane.ledger.capture()
    lane.ledger.take_up()
    lane.ledger.infer()
    rates.tick([lane], now=20.0)
    assert rates.fps("gate") == pytest.approx(1 / 5)
    rates.tick([], now=21.0)
    assert rates.fps("gate") == 0.0

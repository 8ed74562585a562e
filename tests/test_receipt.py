"""The last line of a run."""

from centernetd.flow import Lane, Reason, StageName
from centernetd.run.receipt import receipt
from tests.sinks import open_lane


def infer(lane: Lane, count: int) -> None:
    for _ in range(count):
        lane.ledger.capture()
        lane.ledger.take_up()
        lane.ledger.infer()


def test_all_written() -> None:
    lane = open_lane(StageName.RECORD, StageName.EVENTS)
    infer(lane, 3)
    lane.ledger.write(StageName.RECORD, 3)
    lane.ledger.write(StageName.EVENTS, 1)
    lane.ledger.drop(StageName.EVENTS, Reason.UNWANTED, 2)
    assert receipt(lane) == "gate: 3 captured = 3 written + 0 dropped"


def test_what_was_lost_before_and_in_the_recording_counts() -> None:
    lane = open_lane(StageName.RECORD)
    infer(lane, 5)
    lane.ledger.write(StageName.RECORD, 4)
    lane.ledger.drop(StageName.RECORD, Reason.FAILED)
    for stage in (StageName.CAPTURE, StageName.INFERENCE):
        lane.ledger.capture()
        if stage is StageName.INFERENCE:
            lane.ledger.take_up()
        lane.ledger.drop(stage, Reason.SHUTDOWN)
    assert receipt(lane) == "gate: 7 captured = 4 written + 3 dropped"


def test_what_nobody_asked_for_is_not_lost() -> None:
    lane = open_lane(StageName.EVENTS)
    infer(lane, 2)
    lane.ledger.write(StageName.EVENTS)
    lane.ledger.drop(StageName.EVENTS, Reason.UNWANTED)
    lane.ledger.capture()
    lane.ledger.drop(StageName.CAPTURE, Reason.UNWANTED)
    assert receipt(lane) == "gate: 3 captured = 1 written + 0 dropped + 2 not asked for"


def test_without_outputs_what_was_inferred_counts() -> None:
    lane = open_lane()
    infer(lane, 2)
    assert receipt(lane) == "gate: 2 captured = 2 inferred + 0 dropped"

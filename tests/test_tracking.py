"""Tracking between inference and the sinks: of many streams together, whatever happens to one."""

import logging
import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from centernetd.config import LineConfig, SourceUri, StreamConfig, ZoneConfig
from centernetd.flow import Arrivals, Backpressure, Frame, HostImage, Lane, Meters, StageName
from centernetd.inference.delivery import Inferred
from centernetd.inference.filter import StreamFilter
from centernetd.run.tracking import StreamTracks, Tracking
from centernetd.track.journeys import Journeys
from centernetd.track.tracker import Tracker
from tests.fakes import MODEL, only
from tests.scenes import Walker, found

EVENTS = StageName("events")
SIZE = (480, 640)
IMAGE = HostImage(np.zeros((*SIZE, 3), np.uint8))
GATE = LineConfig.model_validate({"from": (0.2, 0.5), "to": (0.8, 0.5)})
HALL = ZoneConfig(polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
DOWN = Walker([(0.5, 0.35), (0.5, 0.75)], [2.0], [0.5, 0.5])


class Rig:
    """Streams that are tracked, and one that is not; frames come when a test says so."""

    def __init__(self) -> None:
        self.tracking = Tracking(Meters())
        self.tracks: dict[Lane, StreamTracks] = {}
        self.plain = self.lane("plain")
        self.now = time.monotonic()

    def lane(self, name: str) -> Lane:
        return Lane(
            name,
            Backpressure.DROP_OLDEST,
            depth=1000,
            inbox=1000,
            arrivals={MODEL: Arrivals()},
            sinks=[EVENTS],
        )

    def add(self, name: str = "gate", **more: Any) -> Lane:
        source = SourceUri("rtsp://192.0.2.1/s")
        config = StreamConfig(name, source, **{"lines": {"gate": GATE}, **more})
        lane = self.lane(name)
        self.tracks[lane] = StreamTracks(config, only(StreamFilter(0.5, None, ("face",))))
        self.tracking.serve(lane, self.tracks[lane], None)
        return lane

    def inferred(self, lane: Lane, at: float) -> Inferred:
        frame = Frame(
            round(at * 25), IMAGE, round(at * 90000), Fraction(1, 90000), self.now + at, 1e9 + at
        )
        return lane, frame, replace(found([DOWN], at), tracker_id=None)

    def run(self, *lanes: Lane, begins: float = 0.0, ends: float = 3.0) -> list[str]:
        """Return what happens in these lanes, in batches of one frame of each."""
        happened = []
        for number in range(round(begins * 25), round(ends * 25)):
            batch = [self.inferred(lane, number / 25) for lane in lanes]
            results = self.tracking.results(batch)
            for (lane, frame, seen), result in zip(batch, results, strict=True):
                assert result.frame is frame
                assert (result.detections.xyxy == seen.xyxy).all()
                happened += [f"{lane.name} {event.type}" for event in result.events]
        return [each for each in happened if "update" not in each]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_streams_are_tracked_apart_from_one_another(rig: Rig) -> None:
    gate, yard = rig.add("gate"), rig.add("yard", zones={"hall": HALL})
    happened = rig.run(gate, rig.plain, yard)
    assert [each for each in happened if "gate" in each] == ["gate start", "gate cross"]
    assert [each for each in happened if "yard" in each] == [
        "yard start",
        "yard enter",
        "yard cross",
    ]
    assert len(happened) == 5


def test_a_frame_shows_its_tracks_and_counts(rig: Rig) -> None:
    lane = rig.add(zones={"hall": HALL})
    for number in range(60):
        (result,) = rig.tracking.results([rig.inferred(lane, number / 25)])
        assert result.scene is not None
        assert result.detections.tracker_id is not None
        (tracker_id,) = result.detections.tracker_id.tolist()
        confirmed = number >= 8  # 0.3 s
        assert (tracker_id >= 0) is confirmed
        assert (tracker_id in result.scene.track_ids) is confirmed
    assert result.scene is not None
    (line,), (zone,) = result.scene.lines, result.scene.zones
    assert (line.crossed_in, line.crossed_out, zone.inside) == (1, 0, 1)


def test_untracked_streams_have_no_scene(rig: Rig) -> None:
    rig.add()
    (result,) = rig.tracking.results([rig.inferred(rig.plain, 0.0)])
    assert (result.scene, result.detections.tracker_id, result.events) == (None, None, ())


def test_tracks_end_with_their_stream(rig: Rig) -> None:
    lane = rig.add()
    rig.run(lane)
    lane.close()
    assert [event.type for event in lane.take_reported()] == ["end"]
    book = rig.tracks[lane].ledger.read()
    assert book.balanced
    assert (sum(book.started.values()), sum(book.ended.values())) == (1, 1)
    assert rig.run(lane, begins=3.0, ends=4.0) == []


@pytest.mark.parametrize(("policy", "gone"), [("live", ["end"]), ("lossless", [])])
def test_tracks_of_a_camera_that_shows_nothing_end_by_the_clock(
    rig: Rig, policy: Any, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file shows its next frame whenever that has been computed."""
    lane = rig.add(policy=policy)
    rig.run(lane)
    for later, reported in ((5.9, []), (6.1, gone), (9.0, [])):  # last seen at 3.0, max_gap, grace
        monkeypatch.setattr(time, "monotonic", lambda later=later: rig.now + later)
        rig.tracking.expire()
        assert [event.type for event in lane.take_reported()] == reported


@pytest.mark.parametrize("broken", [(Tracker, "update"), (Journeys, "see")])
def test_a_fault_costs_the_tracking_of_its_stream_only(
    rig: Rig,
    broken: tuple[type, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = rig.add("bad", zones={"hall": HALL}), rig.add("good")
    rig.run(bad, good, ends=1.0)
    working = getattr(*broken)
    tracks = rig.tracks[bad]

    def fail(self: Any, first: Any, *rest: Any) -> Any:
        batch = first if isinstance(first, list) else []
        if tracks._journeys is self or any(tracks is each[0] for each in batch):
            raise RuntimeError("an index is out of range")
        return working(self, first, *rest)

    monkeypatch.setattr(*broken, fail)
    assert rig.run(bad, good, rig.plain, begins=1.0) == ["good cross"]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [getattr(record, "stream", None) for record in errors] == ["bad"]
    book = rig.tracks[bad].ledger.read()
    assert book.balanced
    assert not any(book.live.values())
    assert not any(book.inside.values())
    bad.close()

"""What is exported: read back from real lanes through which frames were moved by hand."""

import gc
import re
import threading
import time
from weakref import ref

import pytest
from prometheus_client import ProcessCollector, generate_latest

from centernetd.config import LineConfig, ZoneConfig
from centernetd.flow import (
    CAPTURE,
    INFERENCE,
    Result,
    StorageStatus,
    StreamState,
    TrackEvent,
)
from centernetd.flow.ledger import reasons_at
from centernetd.flow.status import RECONNECT_REASONS
from centernetd.service.metrics import LATENCIES, PREFIX, SECONDS, SIZES, STAGES
from centernetd.sink.registry import SINKS
from centernetd.track.counts import TrackLedger
from scripts.metrics_catalog import catalog
from tests.exported_lanes import NOTHING, ExportedLanes, frame, move_frames
from tests.integration.prometheus import check_metrics

PLACES = (CAPTURE, INFERENCE, *SINKS)


@pytest.fixture
def lanes() -> ExportedLanes:
    return ExportedLanes(StorageStatus(size=5, free=7, oldest=1.5))


def test_frames_are_counted_where_they_are(lanes: ExportedLanes) -> None:
    move_frames(lanes.add("gate"))
    assert lanes.value("frames_captured_total", stream="gate") == 5
    assert lanes.value("frames_inferred_total", stream="gate") == 2
    dropped = {"stream": "gate", "stage": "capture", "reason": "overflow"}
    assert lanes.value("frames_dropped_total", **dropped) == 1
    assert lanes.value("frames_written_total", stream="gate", sink="record") == 1
    assert lanes.value("frames_written_total", stream="gate", sink="events") == 0
    in_flight = {
        stage: lanes.value("frames_in_flight", stream="gate", stage=stage) for stage in PLACES
    }
    assert in_flight == {"capture": 1, "inference": 1, "record": 1, "events": 2}
    assert lanes.value("queue_frames", queue="gate/inbox") == 1
    assert lanes.value("queue_frames", queue="gate/record") == 1
    assert lanes.value("queue_frames", queue="gate/events") == 2


def test_every_counter_exists_at_zero_from_the_start(lanes: ExportedLanes) -> None:
    lanes.add("gate")
    for stage in PLACES:
        for reason in reasons_at(stage):
            labels = {"stream": "gate", "stage": stage, "reason": reason.value}
            assert lanes.value("frames_dropped_total", **labels) == 0
    for why in RECONNECT_REASONS:
        assert lanes.value("reconnects_total", stream="gate", reason=why) == 0
    for name in ("frames_captured", "frames_inferred", "bytes_written", "segments"):
        assert lanes.value(f"{name}_total", stream="gate") == 0
    assert lanes.value("frame_latency_seconds_count", stream="gate") == 0
    for stage_name in STAGES:
        assert lanes.value("stage_duration_seconds_count", stage=stage_name) == 0


def test_a_step_that_only_one_engine_has_is_exported_too(lanes: ExportedLanes) -> None:
    lanes.meters.stage_duration("dequantize", 0.1)
    assert lanes.value("stage_duration_seconds_count", stage="dequantize") == 1


def test_statuses_are_exported(lanes: ExportedLanes) -> None:
    status = lanes.add("gate").status
    status.detections["faces", "face"] = 7
    status.reconnects["stalled"] = 2
    status.bytes_written, status.segments, status.source_lag = 1000, 3, 1.5
    status.codec, status.decoder, status.encoder = "h264", "h264", "libx264"
    assert lanes.value("detections_total", stream="gate", model="faces", label="face") == 7
    assert lanes.value("reconnects_total", stream="gate", reason="stalled") == 2
    assert lanes.value("bytes_written_total", stream="gate") == 1000
    assert lanes.value("segments_total", stream="gate") == 3
    assert lanes.value("source_lag_seconds", stream="gate") == 1.5
    coding = {"codec": "h264", "decoder": "h264", "encoder": "libx264"}
    assert lanes.value("stream_info", stream="gate", **coding) == 1


def test_a_stream_is_up_while_it_runs_and_frames_come(lanes: ExportedLanes) -> None:
    status = lanes.add("gate").status
    assert lanes.value("stream_up", stream="gate") == 0, "not connected yet"
    status.state, status.last_frame_at = StreamState.RUNNING, time.monotonic()
    assert lanes.value("stream_up", stream="gate") == 1
    status.last_frame_at = time.monotonic() - 11
    assert lanes.value("stream_up", stream="gate") == 0
    age = lanes.value("frame_age_seconds", stream="gate")
    assert age is not None
    assert 11 <= age < 60


def test_a_file_that_has_ended_is_not_down(lanes: ExportedLanes) -> None:
    status = lanes.add("demo").status
    status.state = StreamState.ENDED
    assert lanes.value("stream_up", stream="demo") is None
    assert lanes.value("frame_age_seconds", stream="demo") is None
    assert lanes.value("stream_state", stream="demo", state="ended") == 1
    status.failed = True
    assert lanes.value("stream_up", stream="demo") == 0
    assert lanes.value("frame_age_seconds", stream="demo") is not None


def test_one_state_at_a_time(lanes: ExportedLanes) -> None:
    status = lanes.add("gate").status
    for present in StreamState:
        status.state = present
        states = {
            state: lanes.value("stream_state", stream="gate", state=state.value)
            for state in StreamState
        }
        assert states == {state: state is present for state in StreamState}


def test_the_series_of_a_removed_stream_go(lanes: ExportedLanes) -> None:
    lanes.add("gate")
    lanes.add("yard")
    assert 'gate"' in generate_latest(lanes.registry).decode()
    lanes.views[:] = [view for view in lanes.views if view.name != "gate"]
    lanes.meters.remove_stream("gate")
    lanes.meters.frame_latency("gate", 0.1)
    text = generate_latest(lanes.registry).decode()
    assert "gate" not in text
    assert "yard" in text


DOOR = ZoneConfig(polygon=((0, 0), (1, 0), (1, 1)), labels=("person", "dog"))
GATE = LineConfig.model_validate({"from": (0.0, 0.5), "to": (1.0, 0.5)})


def track_ledger() -> TrackLedger:
    """Return a ledger of two tracks, of which one has ended, one is inside and both crossed."""
    ledger = TrackLedger({"door": DOOR}, {"gate": GATE}, {"person": "person", "dog": "dog"})
    box, size = (0.0, 0.0, 1.0, 1.0), (480, 640)
    about = ("a", 1, "person", 0.9, 0.0, 0.0, box, size)
    for kind in ("start", "start", "end"):
        ledger.post([TrackEvent(kind, *about)])
    ledger.post([TrackEvent("enter", *about, zone="door") for _ in range(2)])
    ledger.post([TrackEvent("leave", *about, zone="door", dwell=7.0)])
    ways = ("in", "in", "out")
    ledger.post([TrackEvent("cross", *about, line="gate", direction=way) for way in ways])  # type: ignore[arg-type]
    return ledger


def test_tracks_are_counted(lanes: ExportedLanes) -> None:
    lanes.add("gate", tracks=track_ledger())
    one = {"stream": "gate", "label": "person"}
    assert lanes.value("tracks_started_total", **one) == 2
    assert lanes.value("tracks_ended_total", **one) == 1
    assert lanes.value("tracks_live", stream="gate") == 1
    assert lanes.value("tracks_started_total", stream="gate", label="dog") == 0
    inside = {**one, "zone": "door"}
    names = ("zone_entries_total", "zone_exits_total", "zone_objects")
    assert [lanes.value(name, **inside) for name in names] == [2, 1, 1]
    assert lanes.value("zone_objects", stream="gate", zone="door", label="dog") == 0
    line = {"stream": "gate", "line": "gate", "label": "all"}
    ways = [lanes.value("line_crossings_total", direction=way, **line) for way in ("in", "out")]
    assert ways == [2, 1]
    dwell = {"stream": "gate", "zone": "door"}
    buckets = [lanes.value("zone_dwell_seconds_bucket", le=le, **dwell) for le in ("5.0", "10.0")]
    assert buckets == [0, 1]
    assert lanes.value("zone_dwell_seconds_count", **dwell) == 1
    assert lanes.value("zone_dwell_seconds_sum", **dwell) == 7


def test_a_stream_that_is_not_tracked_has_no_series_about_tracks(lanes: ExportedLanes) -> None:
    lanes.add("gate")
    about_tracks = re.compile("tracks_|line_|zone_")
    assert not {name for name in lanes.names() if about_tracks.match(name)}


def test_a_stream_has_at_most_60_series(lanes: ExportedLanes) -> None:
    status = lanes.add("gate").status
    status.detections["faces", "face"] = 0
    text = generate_latest(lanes.registry).decode()
    assert 50 < len(re.findall(r'^centernetd_\w+{.*"gate[/"]', text, re.M)) <= 60


def test_pictures_on_a_gpu_are_counted_while_somebody_holds_them(lanes: ExportedLanes) -> None:
    status = lanes.add("gate").status
    assert "gpu_surfaces_held" not in lanes.names()
    status.decoder = "h264 (cuda)"
    assert lanes.value("gpu_surfaces_held", stream="gate") == 0
    held = [frame(number).image for number in range(3)]
    for image in held:
        status.surfaces.add(ref(image, status.surfaces.discard))
    assert lanes.value("gpu_surfaces_held", stream="gate") == 3
    del image, held
    gc.collect()
    assert lanes.value("gpu_surfaces_held", stream="gate") == 0


def test_infos(lanes: ExportedLanes) -> None:
    assert lanes.value("build_info", version="1.2.3") == 1
    assert lanes.value("config_info", sha256="c0ffee") == 1
    engine = {"backend": "onnxruntime-cpu", "precision": "float32", "device": "CPU"}
    assert lanes.value("engine_info", **engine, model="faces", layout="centerface") == 1
    assert lanes.value("slots_busy") == 1
    assert lanes.value("model_inferences_total", model="faces") == 40


def test_the_disk(lanes: ExportedLanes) -> None:
    assert lanes.value("storage_bytes") == 5
    assert lanes.value("storage_free_bytes") == 7
    assert lanes.value("oldest_segment_timestamp_seconds") == 1.5


def test_what_is_not_known_is_not_exported() -> None:
    lanes = ExportedLanes(StorageStatus())
    lanes.status.models = ()
    storage = {"storage_bytes", "storage_free_bytes", "oldest_segment_timestamp_seconds"}
    assert not lanes.names() & {"engine_info", *storage}


def test_histograms(lanes: ExportedLanes) -> None:
    lanes.add("gate")
    lanes.meters.batch_size(3)
    lanes.meters.stage_duration("execute", 0.002)
    lanes.meters.frame_latency("gate", 0.3)
    lanes.meters.frame_latency("never-added", 0.3)
    assert lanes.value("batch_size_bucket", le="2.0") == 0
    assert lanes.value("batch_size_bucket", le="4.0") == 1
    assert lanes.value("stage_duration_seconds_bucket", stage="execute", le="0.001") == 0
    assert lanes.value("stage_duration_seconds_bucket", stage="execute", le="0.0025") == 1
    assert lanes.value("frame_latency_seconds_sum", stream="gate") == 0.3
    assert lanes.value("frame_latency_seconds_sum", stream="never-added") is None
    assert (len(SECONDS), SECONDS[0], SECONDS[-1]) == (12, 0.0005, 10.0)
    assert (len(LATENCIES), LATENCIES[0], LATENCIES[-1]) == (8, 0.01, 5.0)
    assert SIZES == (1, 2, 4, 8, 16, 32, 64)


def test_a_scrape_is_consistent_while_frames_move(lanes: ExportedLanes) -> None:
    """Captured = inferred + dropped + waiting in each scrape, though another thread counts."""
    lane = lanes.add("gate", inbox=1)
    done = threading.Event()

    def move() -> None:
        frame_id = 0
        while not done.is_set():
            lane.offer(frame(frame_id))
            taken = lane.take() if frame_id % 3 else None
            if taken is not None:
                lane.deliver(Result(taken, NOTHING))
            frame_id += 1

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(50):
            samples = [s for family in lanes.registry.collect() for s in family.samples]
            count = dict.fromkeys(("captured", "inferred", "dropped", "waiting"), 0.0)
            for sample in samples:
                kind = sample.name.removeprefix(f"{PREFIX}frames_").removesuffix("_total")
                kind = {"in_flight": "waiting"}.get(kind, kind)
                if kind in count and sample.labels.get("stage") not in ("record", "events"):
                    count[kind] += sample.value
            gone = count["inferred"] + count["dropped"]
            assert count["captured"] == gone + count["waiting"], count
    finally:
        done.set()
        mover.join()


def test_promtool_accepts_the_text(lanes: ExportedLanes) -> None:
    move_frames(lanes.add("gate"))
    lanes.add("yard").status.detections["faces", 'a "quoted" label\\'] = 1
    text = generate_latest(lanes.registry).decode()
    assert "gate" in text
    assert check_metrics(text) == ""


def test_promtool_complains_about_bad_metrics() -> None:
    assert check_metrics("# TYPE frames counter\nframes 1\n") != ""


def test_the_catalog_lists_exactly_what_is_exported(lanes: ExportedLanes) -> None:
    lane = lanes.add("gate", tracks=track_ledger())
    lane.status.detections["faces", "face"] = lane.status.withheld["failed"] = 1
    lane.status.decoder = "h264 (cuda)"
    ProcessCollector(registry=lanes.registry)
    exported = {s.name for family in lanes.registry.collect() for s in family.samples}
    assert exported == {name for entry in catalog() for name in entry.series}
    types = {family.name: family.type for family in lanes.registry.collect()}
    for entry in catalog():
        name = entry.name.removesuffix("_total").removesuffix("_info")
        assert types[name].replace("info", "gauge") == entry.kind


def test_the_catalog_gives_the_labels_of_each_metric(lanes: ExportedLanes) -> None:
    lane = lanes.add("gate", tracks=track_ledger())
    lane.status.detections["faces", "face"] = lane.status.withheld["failed"] = 1
    lane.status.decoder = "h264 (cuda)"
    ProcessCollector(registry=lanes.registry)
    labels = {
        sample.name: set(sample.labels) - {"le"}
        for family in lanes.registry.collect()
        for sample in family.samples
    }
    for entry in catalog():
        assert all(labels[name] == set(entry.labels) for name in entry.series)

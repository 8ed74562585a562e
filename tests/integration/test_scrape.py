"""What a run shows of itself: to a real Prometheus, to probes, and when it can't be shown."""

import json
import signal
import socket
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import clips, models
from tests.event_lines import read_events
from tests.integration.conftest import DEMO
from tests.integration.process import (
    SQUARES_SIZE,
    STOP_PROMISE,
    Daemon,
    Finished,
    Receipt,
    free_port,
    nobody,
    run,
    started,
    write_config,
)
from tests.integration.prometheus import check_metrics, scraping
from tests.tools import tool

FRAMES = 250  # of the demo
UNBALANCED = """
abs(centernetd_frames_captured_total - centernetd_frames_inferred_total
    - sum by (instance, job, stream) (centernetd_frames_dropped_total{stage=~"capture|inference"})
    - sum by (instance, job, stream) (centernetd_frames_in_flight{stage=~"capture|inference"}))
"""


def stop(daemon: Daemon) -> Finished:
    daemon.send(signal.SIGTERM)
    return daemon.finish(STOP_PROMISE)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples of /metrics, by name and labels."""
    return {
        (sample.name.removeprefix("centernetd_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_real_prometheus_follows_a_run_to_its_end(tmp_path: Path, squares: Path) -> None:
    tool("prometheus")
    port = free_port()
    streams = {"demo": {"source": str(DEMO), "policy": "live"}, "cam": {"source": nobody()}}
    config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE, port=port)
    with started(config) as daemon:
        daemon.wait_until_reachable()
        with scraping(port, tmp_path) as prometheus:
            ended = 'centernetd_stream_state{stream="demo",state="ended"} == 1'
            prometheus.wait_for(ended)
            pending = 'sum(centernetd_frames_in_flight{stream="demo"}) == 0'
            prometheus.wait_for(pending)
            of_demo = {
                name: prometheus.value(f'sum(centernetd_frames_{name}_total{{stream="demo"}})')
                for name in ("captured", "inferred", "dropped")
            }
            recorded = 'centernetd_frames_written_total{stream="demo",sink="record"}'
            of_demo["recorded"] = prometheus.value(recorded)
            assert prometheus.value("sum(min_over_time(up[5m]))") == 1
            assert prometheus.value('centernetd_frames_captured_total{stream="cam"}') == 0
            assert prometheus.value('centernetd_reconnects_total{reason="unreachable"} > 0')
            moments = f"count_over_time(({UNBALANCED})[1m:1s]) > 3"
            assert len(prometheus.query(moments)) == len(streams)
            assert prometheus.query(f"max_over_time(({UNBALANCED})[1m:1s]) > 0") == []
            (target,) = prometheus.targets()
            assert (target["health"], target["lastError"]) == ("up", "")
        finished = stop(daemon)
    receipt = finished.receipts["demo"]
    assert of_demo["captured"] == receipt.captured == FRAMES
    assert of_demo["recorded"] == receipt.written
    assert receipt.balanced


def test_what_is_published_during_and_after_a_run(tmp_path: Path, squares: Path) -> None:
    streams = {
        "demo": {"source": str(DEMO), "events": {"frames": "always"}},
        "cam": {"source": nobody()},
    }
    config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE, port=free_port())
    with started(config) as daemon:
        daemon.wait_for_frames("demo", 20)
        assert daemon.get("/healthz") == (200, "ok\n")
        assert daemon.get("/readyz?stream=demo") == (200, "ok\n")
        code, body = daemon.get("/readyz")
        assert code == 200, "one fresh stream is enough"
        assert body.splitlines()[1].startswith("cam: ")
        assert daemon.get("/readyz?stream=cam")[0] == 503
        assert daemon.get("/readyz?stream=hall")[0] == 404
        status = json.loads(daemon.get("/status")[1])
        assert status["models"]["default"]["backend"] == "onnxruntime-cpu"
        assert status["streams"]["demo"]["total_frames"] == FRAMES
        code, text = daemon.get("/metrics")
        assert code == 200
        assert check_metrics(text) == ""
        before = samples(text)

        daemon.wait_for_status("demo", lambda demo: demo["written"]["record"] == FRAMES)
        written = 'centernetd_frames_written_total{sink="record",stream="demo"}'
        after = samples(daemon.wait_for_metrics(f"{written} {FRAMES}.0"))
        finished = stop(daemon)
    demo = ("stream", "demo")
    for sink in ("record", "events"):
        assert after["frames_written_total", frozenset({demo, ("sink", sink)})] == FRAMES
    assert after["frames_inferred_total", frozenset({demo})] == FRAMES
    assert after["bytes_written_total", frozenset({demo})] == size(finished, "demo.mp4")
    assert after["segments_total", frozenset({demo})] == 1
    assert after["frame_latency_seconds_count", frozenset({demo})] == FRAMES
    for stage in ("decode", "annotate", "encode"):
        assert after["stage_duration_seconds_count", frozenset({("stage", stage)})] == FRAMES
    batches = after["batch_size_count", frozenset()]
    assert after["stage_duration_seconds_count", frozenset({("stage", "execute")})] == batches
    assert ("stream_up", frozenset({demo})) not in after
    assert ("stream_up", frozenset({("stream", "cam")})) in after
    assert set(before) - set(after) <= {
        ("stream_up", frozenset({demo})),
        ("frame_age_seconds", frozenset({demo})),
        *(key for key in before if key[0] == "stream_info"),
    }


def size(finished: Finished, name: str) -> int:
    return (finished.state / name).stat().st_size


def test_a_port_in_use_is_a_clear_failure(tmp_path: Path, squares: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        streams = {"demo": {"source": str(DEMO)}}
        finished = run(write_config(tmp_path, streams, model=squares, port=port))
    assert finished.code == 1
    assert finished.stdout == ""
    (sentence,) = finished.stderr.splitlines()
    assert sentence == (
        f"centernetd: metrics.listen 127.0.0.1:{port} can't be bound: "
        "address already in use; choose another or stop the program that has it"
    )


def test_a_second_daemon_on_one_storage_is_refused(tmp_path: Path, squares: Path) -> None:
    streams = {"cam": {"source": nobody()}}
    config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE)
    with started(config) as daemon:
        daemon.wait_for_log("next try")
        second = run(config)
        first = stop(daemon)
    assert (first.code, second.code) == (0, 1)
    assert f"another centernetd writes to {tmp_path / 'state'}" in second.stderr


@pytest.fixture(scope="module")
def several(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run over three short files and one that does not exist."""
    folder = tmp_path_factory.mktemp("several")
    streams = {"gone": {"source": "gone.mp4"}}
    for number, name in enumerate(("red", "green", "blue")):
        picture = models.draw((128, 160), (number, (40, 40, 80, 72)))
        clips.write(folder / f"{name}.mp4", [picture] * (20 + 10 * number))
        streams[name] = {"source": f"{name}.mp4"}
    return run(write_config(folder, streams, model=squares, size=SQUARES_SIZE))


def test_one_missing_file_harms_no_other(several: Finished) -> None:
    assert several.code == 1
    assert several.receipts == {
        "gone": Receipt(0, 0, 0, 0),
        "red": Receipt(20, 20, 0, 0),
        "green": Receipt(30, 30, 0, 0),
        "blue": Receipt(40, 40, 0, 0),
    }
    assert several.messages("error", "gone") == [
        "gone.mp4: can't be opened: no such file or directory"
    ]
    assert sorted(path.name for path in several.state.glob("*.mp4")) == [
        "blue.mp4",
        "green.mp4",
        "red.mp4",
    ]


@pytest.mark.parametrize(("class_id", "name"), [(0, "red"), (1, "green"), (2, "blue")])
def test_no_stream_is_given_what_was_found_in_another(
    several: Finished, class_id: int, name: str
) -> None:
    found = read_events(several.state / f"{name}.jsonl")
    assert len(found) == several.receipts[name].captured
    for event in found:
        assert event["stream"] == name
        (seen,) = event["detections"]
        assert seen["class_id"] == class_id
        assert seen["box"] == pytest.approx([40, 40, 80, 72], abs=2)

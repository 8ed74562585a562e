"""The pages over real sockets; the formats of /metrics, and for how long a text is shared."""

import gzip
import json
import re
import time
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from centernetd.config import Address
from centernetd.flow import Arrivals, Backpressure, Lane, StorageStatus, StreamState
from centernetd.service.health import NOT_LOADED, Heartbeats, StreamView
from centernetd.service.http import HttpServer
from centernetd.service.metrics import PipelineCollector
from centernetd.service.pages import FRESH, Pages, ScrapePage
from centernetd.service.status import DaemonStatus
from centernetd.sink.registry import RECORD
from tests.exported_lanes import ExportedLanes, FakeModel, move_frames
from tests.fakes import MODEL
from tests.integration.prometheus import check_metrics

ANY_PORT = Address("127.0.0.1", 0)


class FakeClock:
    """Monotonic seconds that pass only on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stream(name: str, age: float = 0.0, state: StreamState = StreamState.RUNNING) -> StreamView:
    lane = Lane(
        name,
        Backpressure.DROP_OLDEST,
        depth=4,
        inbox=2,
        arrivals={MODEL: Arrivals()},
        sinks=[RECORD],
    )
    lane.status.state = state
    lane.status.last_frame_at = time.monotonic() - age
    return StreamView(lane, stall_timeout=10.0)


class Site:
    """A served pipeline of which the test holds the strings."""

    def __init__(self, storage: StorageStatus) -> None:
        self.streams = [stream("gate")]
        self.clock = FakeClock()
        self.status = DaemonStatus(
            storage,
            "c0ffee",
            streams=self.streams,
            models=[FakeModel()],
            heartbeats=Heartbeats(self.clock),
            version="1.2.3",
            started_at=time.monotonic() - 60,
        )
        registry = CollectorRegistry()
        registry.register(PipelineCollector(self.status))
        self.server = HttpServer(ANY_PORT, Pages(self.status, registry))

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(StorageStatus(size=5, free=7, trouble="is full"))
    site.server.start()
    yield site
    site.server.close()


def test_metrics_in_both_formats(site: Site) -> None:
    code, headers, text = site.ask("/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'centernetd_stream_up{stream="gate"} 1.0\n' in text
    code, headers, text = site.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert code == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert "# TYPE centernetd_build info\n" in text
    assert text.endswith("# EOF\n")


def test_health_is_200_only_when_true(site: Site) -> None:
    assert site.ask("/healthz")[::2] == (200, "ok\n")
    site.status.models = ()
    assert site.ask("/healthz")[::2] == (503, f"not ok\n{NOT_LOADED}\n")


def test_a_hung_inference_is_unhealthy(site: Site) -> None:
    site.status.heartbeats.tick({"faces": 3})
    site.clock.now += 11
    site.status.heartbeats.tick({"faces": 3})
    code, _, body = site.ask("/healthz")
    assert code == 503
    assert body == (
        "not ok\ninference has made no progress for 11.0 s while 3 frames wait for faces\n"
    )


def test_ready_when_any_stream_is_fresh(site: Site) -> None:
    dead = stream("yard", age=12, state=StreamState.RECONNECTING)
    dead.lane.status.last_error = "yard: connection refused"
    site.streams.append(dead)
    code, _, body = site.ask("/readyz")
    assert code == 200
    assert re.fullmatch(
        r"ok\nyard: reconnecting for 1[2-9]\.\d s: yard: connection refused\n", body
    )
    assert site.ask("/readyz?stream=gate")[::2] == (200, "ok\n")
    code, _, body = site.ask("/readyz?stream=yard")
    assert code == 503
    assert body.startswith("not ok\nyard: reconnecting")


@pytest.mark.parametrize("name", ["shed", "", "gate%00"])
def test_an_unknown_stream_is_404(site: Site, name: str) -> None:
    assert site.ask(f"/readyz?stream={name}")[0] == 404


def test_status(site: Site) -> None:
    lane = site.streams[0].lane
    lane.status.last_error, lane.status.output = "once lost", "/videos/gate.mp4"
    lane.skip()
    site.status.rates.tick([lane], now=10.0)
    for _ in range(10):
        lane.ledger.capture()
        lane.ledger.take_up()
        lane.ledger.infer()
    site.status.rates.tick([lane], now=12.0)
    code, headers, body = site.ask("/status")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    document = json.loads(body)
    assert document["version"] == "1.2.3"
    assert document["uptime"] >= 60
    assert document["healthy"] is True
    assert document["models"]["faces"]["backend"] == "onnxruntime-cpu"
    known = {"size": 5, "free": 7, "oldest": None, "trouble": "is full", "hung": False}
    assert document["storage"] == known
    gate = document["streams"]["gate"]
    assert gate["state"] == "running"
    assert gate["fps"] == 5.0
    assert (gate["captured"], gate["inferred"], gate["dropped"]) == (
        11,
        10,
        {"capture/unwanted": 1},
    )
    assert (gate["last_error"], gate["output"]) == ("once lost", "/videos/gate.mp4")
    assert 0 <= gate["frame_age"] < 60


def test_a_frame_that_never_was_has_no_age(site: Site) -> None:
    site.status.streams = [stream("gate", state=StreamState.RECONNECTING)]
    assert json.loads(site.ask("/status")[2])["streams"]["gate"]["frame_age"] is None


def test_status_before_the_engine_is_loaded(site: Site) -> None:
    site.status.models = ()
    document = json.loads(site.ask("/status")[2])
    assert (document["models"], document["healthy"]) == ({}, False)
    assert document["troubles"] == [NOT_LOADED]


def test_other_paths_and_methods(site: Site) -> None:
    assert site.ask("/")[0] == 404
    code, headers, _ = site.ask("/healthz", method="POST")
    assert (code, headers["Allow"]) == (405, "GET, HEAD")
    assert site.ask("/metrics", method="DELETE")[0] == 405
    assert site.ask("/healthz", method="HEAD")[::2] == (200, "")
    assert site.ask("/metrics", method="HEAD")[::2] == (200, "")


def test_no_page_waits_for_the_pipeline(site: Site) -> None:
    """All answer while a batch is collected. A lane's lock is held for its counts only."""
    with site.streams[0].lane.inboxes[MODEL].arrivals._arrived:
        for path in ("/metrics", "/healthz", "/readyz", "/status"):
            assert site.ask(path)[0] == 200


class Frozen(Collector):
    """Gives the same metrics again and again; a test may replace them."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self.metrics

    def describe(self) -> Iterable[Metric]:
        return self.metrics


def registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


@pytest.fixture
def frozen(tmp_path: Path) -> Frozen:
    lanes = ExportedLanes(StorageStatus())
    for name in ("gate", "yard"):
        move_frames(lanes.add(name))
    lanes.views[0].lane.status.detections["default", 'a "quoted" label\\ of\ntwo lines'] = (
        12_345_678
    )
    lanes.meters.frame_latency("gate", 0.0123)
    lanes.meters.batch_size(3)
    return Frozen(lanes.registry.collect())


def test_what_is_scraped_is_what_prometheus_reads(frozen: Frozen) -> None:
    assert check_metrics(Scraper(frozen)()) == ""


class Scraper:
    """Asks a page as the HTTP server would; time and cost pass only on request."""

    def __init__(self, collector: Collector) -> None:
        self.now = 100.0
        self.page = ScrapePage(registry_of(collector), lambda: self.now)
        self.headers: dict[str, str] = {}

    def __call__(self, accept: str = "", query: str = "", packing: str = "") -> str:
        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            assert status == "200 OK"
            self.headers = dict(headers)

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "HTTP_ACCEPT": accept,
            "HTTP_ACCEPT_ENCODING": packing,
            "QUERY_STRING": query,
        }
        body = b"".join(self.page(environ, start))
        return (gzip.decompress(body) if "Content-Encoding" in self.headers else body).decode()


def number(value: int) -> Metric:
    metric = Metric("centernetd_frames", "Frames.", "counter")
    metric.add_sample("centernetd_frames_total", {}, value)
    return metric


def test_a_text_is_shared_for_a_second() -> None:
    frames = Frozen([number(1)])
    scrape = Scraper(frames)
    assert "frames_total 1.0" in scrape()
    frames.metrics = [number(2)]
    scrape.now += FRESH - 0.01
    assert "frames_total 1.0" in scrape()
    assert "frames_total 2.0" in scrape(query="name[]=centernetd_frames_total"), "another text"
    scrape.now += 0.02
    assert "frames_total 2.0" in scrape()


def test_what_clients_ask_for_fills_no_memory() -> None:
    scrape = Scraper(Frozen([number(1)]))
    for index in range(1000):
        scrape(query=f"name[]={index}")
    assert len(scrape.page._answers) < 20


def test_a_format_is_never_given_for_another() -> None:
    scrape = Scraper(Frozen([number(1)]))
    assert "# TYPE centernetd_frames_total counter" in scrape()
    assert "# TYPE centernetd_frames counter" in scrape("application/openmetrics-text")
    assert scrape.headers["Content-Type"].startswith("application/openmetrics-text")


def test_packed_for_those_who_can_unpack_it() -> None:
    scrape = Scraper(Frozen([number(1)]))
    assert scrape(packing="gzip") == scrape(packing="br, gzip;q=1.0") == scrape()
    assert "Content-Encoding" not in scrape.headers
    scrape(packing="deflate, gzip")
    assert scrape.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("version", ["x", "1.x", "", "-", "1.0.0.0", "9" * 9000])
@pytest.mark.parametrize("query", ["", "name[]=centernetd_frames_total"])
def test_no_accept_header_breaks_it(version: str, query: str) -> None:
    scrape = Scraper(Frozen([number(1)]))
    for kind in ("application/openmetrics-text", "text/plain"):
        assert "centernetd_frames_total 1.0" in scrape(f"{kind};version={version}", query)


def test_other_spellings_and_parts_come_from_the_library() -> None:
    scrape = Scraper(Frozen([number(1)]))
    dots = scrape("application/openmetrics-text;version=1.0.0;escaping=dots")
    assert "centernetd__frames__total 1.0" in dots
    assert "escaping=dots" in scrape.headers["Content-Type"]
    assert scrape(query="name[]=centernetd_other") == ""

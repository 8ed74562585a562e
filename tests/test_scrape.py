"""The page /metrics: its formats, and for how long a text is shared."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from centernetd.flow import StorageStatus
from centernetd.service.pages import FRESH, ScrapePage
from tests.house import House, move_frames
from tests.integration.prometheus import check_metrics


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
    house = House(StorageStatus())
    for name in ("gate", "yard"):
        move_frames(house.add(name))
    house.views[0].lane.status.detections['a "quoted" label\\ of\ntwo lines'] = 12_345_678
    house.meters.frame_latency("gate", 0.0123)
    house.meters.batch_size(3)
    return Frozen(house.registry.collect())


def test_what_is_scraped_is_what_prometheus_reads(frozen: Frozen) -> None:
    assert check_metrics(Scraper(frozen)()) == ""


class Scraper:
    """Asks a page as the HTTP server would; time and cost pass only when told."""

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

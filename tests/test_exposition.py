"""Our text for Prometheus beside prometheus_client's own, and how long it is given again."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from centernetd.flow import StorageStatus
from centernetd.service.exposition import Exposition
from centernetd.service.scrape import FRESH, ScrapePage
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


def assert_the_same(registry: CollectorRegistry, ours: Exposition) -> None:
    assert ours.text() == generate_latest(registry)
    assert ours.openmetrics() == openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]


def test_ours_is_the_library_s_text_to_the_byte(frozen: Frozen) -> None:
    registry = registry_of(frozen)
    ours = Exposition(registry)
    assert_the_same(registry, ours)
    assert_the_same(registry, ours)  # now from what was kept
    assert check_metrics(ours.text().decode()) == ""


@given(
    values=st.lists(st.tuples(st.text(), st.text(), st.floats() | st.integers(0)), max_size=5),
    said=st.text(),
)
def test_any_labels_and_numbers(values: list[tuple[str, str, float]], said: str) -> None:
    metric = Metric("centernetd_things", said, "gauge")
    for one, other, number in values:
        # prometheus_client tells 0 from -0, of which we export none
        metric.add_sample("centernetd_things", {"z": one, "a": other}, number or 0.0)
    try:
        said.encode()
        "".join(one + other for one, other, _ in values).encode()
    except UnicodeEncodeError:
        return
    registry = registry_of(Frozen([metric]))
    assert_the_same(registry, Exposition(registry))


def test_the_series_of_a_removed_stream_go(tmp_path: Path) -> None:
    house = House(StorageStatus())
    house.add("gate")
    house.add("yard")
    ours = Exposition(house.registry)
    assert b"gate" in ours.text()
    del house.views[0]
    house.meters.remove_stream("gate")
    assert b"gate" not in ours.text()
    assert not any("gate" in "/".join(series) for series in ours._beginnings)


class Scraper:
    """Asks a page as the HTTP server would; time and cost pass only when told."""

    def __init__(self, collector: Collector) -> None:
        self.now, self.cpu, self.cost = 100.0, 0.0, 0.0
        self.page = ScrapePage(registry_of(collector), lambda: self.now, self._cpu_clock)
        self.headers: dict[str, str] = {}

    def _cpu_clock(self) -> float:
        self.cpu += self.cost
        return self.cpu

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


@pytest.mark.parametrize(
    ("cost", "lasts"), [(0.0, 0.0), (0.001, 0.2), (0.005, 1.0), (0.015, FRESH), (1.0, FRESH)]
)
def test_a_text_is_given_again_for_as_long_as_it_was_dear(cost: float, lasts: float) -> None:
    frames = Frozen([number(1)])
    scrape = Scraper(frames)
    scrape.cost = cost
    assert "frames_total 1.0" in scrape()
    frames.metrics = [number(2)]
    if lasts:
        scrape.now += lasts - 0.01
        assert "frames_total 1.0" in scrape()
    scrape.now += 0.02
    assert "frames_total 2.0" in scrape()


def test_a_format_is_never_given_for_another() -> None:
    scrape = Scraper(Frozen([number(1)]))
    scrape.cost = 1.0
    assert "# TYPE centernetd_frames_total counter" in scrape()
    assert "# TYPE centernetd_frames counter" in scrape("application/openmetrics-text")
    assert scrape.headers["Content-Type"].startswith("application/openmetrics-text")


def test_packed_for_those_who_can_unpack_it() -> None:
    scrape = Scraper(Frozen([number(1)]))
    scrape.cost = 1.0
    assert scrape(packing="gzip") == scrape(packing="br, GZIP;q=1.0") == scrape()
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

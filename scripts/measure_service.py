"""Measure the cost of monitoring: scrapes of 64 streams, start-up, and memory when idle.

Run ``python -m scripts.measure_service [text] [pages] [scraping] [start]`` (default: all) on an
otherwise idle machine. Needs ``centernetd fetch centerface``.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from centernetd.config import Address
from centernetd.flow import Arrivals, Backpressure, Lane, StorageStatus
from centernetd.service.health import StreamView
from centernetd.service.http import HttpServer
from centernetd.service.metrics import PipelineCollector, PrometheusMeters
from centernetd.service.pages import ScrapePage
from centernetd.service.status import DaemonStatus
from centernetd.sink.registry import EVENTS, RECORD

DEMO = Path(__file__).resolve().parent.parent / "assets" / "demo.mp4"
STREAMS = 64
LABELS = 21  # the maximum per stream: the model's first 20 and the rest
SLICE, PAIRS = 10.0, 6  # seconds with or without scraping, and how many of each
SCRAPER = """
import time
from http.client import HTTPConnection
connection, end = HTTPConnection("127.0.0.1", {port}), time.monotonic() + 12
while time.monotonic() < end:
    connection.request("GET", "/metrics", headers={{"Accept-Encoding": "gzip"}})
    connection.getresponse().read()
    time.sleep(0.1)
"""
NOBODY = "rtsp://127.0.0.1:9/"


def text() -> None:
    """Time the generation of the text of all streams."""
    registry = busy_registry()
    kinds: dict[str, Callable[[], object]] = {
        "text": lambda: generate_latest(registry),
        "OpenMetrics": lambda: openmetrics.generate_latest(registry),  # type: ignore[no-untyped-call]
    }
    for name, make in kinds.items():
        times = [cost(make) * 1e3 for _ in range(20)]
        median, least = statistics.median(times), min(times)
        print(f"{STREAMS} streams as {name}: {median:.1f} ms CPU (least {least:.1f})")


def pages() -> None:
    """Measure the CPU time of answering ten scrapes per second, on an otherwise idle daemon."""
    server = HttpServer(Address("127.0.0.1", 0), ScrapePage(busy_registry()))
    server.start()
    scraper = subprocess.Popen([sys.executable, "-c", SCRAPER.format(port=server.port)])
    time.sleep(1)
    before = time.process_time()
    time.sleep(SLICE)
    used = (time.process_time() - before) / SLICE
    scraper.wait()
    server.close()
    print(f"ten scrapes a second of {STREAMS} streams: {used * 1e3:.1f} ms CPU a second,")
    print(f"  {used / 2:.2%} of two cores")


def busy_registry() -> CollectorRegistry:
    """Return a registry with streams in which every label has been seen."""
    registry, views = CollectorRegistry(), []
    meters = PrometheusMeters(registry)
    for number in range(STREAMS):
        lane = Lane(
            f"camera-{number}",
            Backpressure.DROP_OLDEST,
            depth=8,
            inbox=2,
            arrivals={"coco": Arrivals()},
            sinks=(RECORD, EVENTS),
        )
        lane.status.detections.update(
            {("coco", f"label-{index}"): index for index in range(LABELS)}
        )
        meters.add_stream(lane.name)
        views.append(StreamView(lane, stall_timeout=10.0))
    status = DaemonStatus(StorageStatus(), "", streams=views)
    registry.register(PipelineCollector(status))
    return registry


def cost(work: Callable[[], object]) -> float:
    """Return the CPU seconds that ``work`` takes in this thread."""
    before = time.thread_time()
    work()
    return time.thread_time() - before


def scraping() -> None:
    """Compare the frame rates of a daemon with 64 streams, with and without ten scrapes per second.

    Also compares its frames per CPU second, on which other programs have less influence.
    """
    port = free_port()
    streams = {
        f"camera-{n}": {"source": str(DEMO), "record": {"when": "never"}} for n in range(STREAMS)
    }
    with tempfile.TemporaryDirectory() as folder:
        daemon = start(Path(folder), streams, port)
        by_wall, by_cpu = [], []
        wait_for_frames(port, 100)
        for pair in range(PAIRS):
            order = (True, False) if pair % 2 else (False, True)
            rates = {scraped: slice_of(daemon.pid, port, scraped) for scraped in order}
            by_wall.append(rates[True][0] / rates[False][0])
            by_cpu.append(rates[True][1] / rates[False][1])
            print(f"  {rates[False][0]:.2f} frames/s, scraped {rates[True][0]:.2f}")
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
    print(
        f"scraped ten times per second / not: {statistics.median(by_wall):.4f} (median of {PAIRS})"
    )
    print(f"the same for frames per CPU second: {statistics.median(by_cpu):.4f}")


def slice_of(pid: int, port: int, scraped: bool) -> tuple[float, float]:
    """Return frames per second and frames per CPU second over one slice of time."""
    until = time.monotonic() + SLICE
    scraper = HTTPConnection("127.0.0.1", port, timeout=60)  # kept open, as Prometheus does
    began, cpu, frames = time.monotonic(), cpu_seconds(pid), inferred(port)
    while time.monotonic() < until:
        if scraped:
            scraper.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
            scraper.getresponse().read()
        time.sleep(0.1)
    scraper.close()
    done = inferred(port) - frames
    return done / (time.monotonic() - began), done / (cpu_seconds(pid) - cpu)


def begin() -> None:
    """Measure the time from start to READY, and the memory of an idle daemon."""
    cases = {
        "the demo": {"demo": {"source": str(DEMO)}},
        "an idle camera": {"gate": {"source": NOBODY}},
    }
    for name, streams in cases.items():
        seconds, resident = [], 0.0
        for _ in range(5):
            with tempfile.TemporaryDirectory() as folder, ready_socket(Path(folder)) as systemd:
                before = time.monotonic()
                daemon = start(Path(folder), streams, None, systemd.getsockname())
                while b"READY=1" not in systemd.recv(4096):
                    pass
                seconds.append(time.monotonic() - before)
                time.sleep(2)
                resident = resident_bytes(daemon.pid)
                daemon.send_signal(signal.SIGTERM)
                daemon.wait()
        shown = " ".join(f"{value:.2f}" for value in sorted(seconds))
        print(f"start to READY, {name}: {shown} s; resident 2 s later: {resident / 1e6:.0f} MB")


def start(
    folder: Path, streams: object, port: int | None, notify: str | None = None
) -> "subprocess.Popen[bytes]":
    """Start a daemon that writes to ``folder``."""
    listen = None if port is None else f"127.0.0.1:{port}"
    config = folder / "config.yaml"
    config.write_text(json.dumps({"version": 1, "streams": streams, "metrics": {"listen": listen}}))
    environ = {**os.environ, "STATE_DIRECTORY": str(folder)}
    if notify:
        environ["NOTIFY_SOCKET"] = notify
    command = [sys.executable, "-m", "centernetd", "run", "-c", str(config)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=environ, stdout=quiet, stderr=quiet)


def ready_socket(folder: Path) -> socket.socket:
    """Return a socket that receives the daemon's notifications to systemd."""
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(folder / "notify"))
    systemd.settimeout(120)
    return systemd


def get(port: int, path: str) -> bytes:
    """Request a page."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def inferred(port: int) -> int:
    """Return how many frames the daemon has run inference on."""
    streams = json.loads(get(port, "/status"))["streams"]
    return sum(stream["inferred"] for stream in streams.values())


def wait_for_frames(port: int, count: int) -> None:
    """Wait until ``count`` frames are done."""
    while True:
        try:
            if inferred(port) >= count:
                return
        except OSError:
            pass
        time.sleep(0.5)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process (proc(5): fields 14 and 15, in ticks)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (proc(5): the second field, in pages)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port that is currently free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    parts = {"text": text, "pages": pages, "scraping": scraping, "start": begin}
    for part in sys.argv[1:] or parts:
        parts[part]()

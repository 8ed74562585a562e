"""The pages over real sockets, and the judgements behind them without any."""

import errno
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from centernetd.config import Address
from centernetd.errors import StartupError
from centernetd.flow import Backpressure, Lane, StageName, StorageStatus, StreamState
from centernetd.service import (
    CollectorRegistry,
    EngineInfo,
    HttpServer,
    Pages,
    Pipeline,
    PipelineCollector,
    Progress,
    Rates,
    StreamView,
)
from centernetd.service.health import NOT_LOADED, STORAGE_HUNG, Verdict, health, readiness
from centernetd.service.view import ConfigState

ANY_PORT = Address("127.0.0.1", 0)


class FakeClock:
    """Monotonic seconds that pass only when told."""

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
        ready=threading.Condition(),
        sinks=[StageName.RECORD],
    )
    lane.status.state = state
    lane.status.last_frame_at = time.monotonic() - age
    return StreamView(lane, stall_timeout=10.0)


class Site:
    """A served pipeline of which the test holds the strings."""

    def __init__(self, storage: StorageStatus) -> None:
        self.streams = [stream("gate")]
        self.engine: EngineInfo | None = EngineInfo(
            "onnxruntime-cpu", "float32", "CPU", "faces", "there is no NVIDIA device"
        )
        self.clock = FakeClock()
        self.progress = Progress(self.clock)
        self.rates = Rates()
        view = Pipeline(
            streams=lambda: self.streams,
            engine=lambda: self.engine,
            slots_busy=lambda: 0,
            progress=self.progress,
            rates=self.rates,
            storage=storage,
            config=ConfigState("c0ffee"),
            version="1.2.3",
            started_at=time.monotonic() - 60,
        )
        registry = CollectorRegistry()
        registry.register(PipelineCollector(view))
        self.server = HttpServer(ANY_PORT, Pages(view, registry))

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
    site.engine = None
    assert site.ask("/healthz")[::2] == (503, f"not ok\n{NOT_LOADED}\n")


def test_a_hung_inference_is_unhealthy(site: Site) -> None:
    site.progress.tick(waiting=3)
    site.clock.now += 11
    site.progress.tick(waiting=3)
    code, _, body = site.ask("/healthz")
    assert code == 503
    assert body == "not ok\ninference has not moved for 11.0 s while 3 frames wait\n"


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
    site.rates.tick([lane], now=10.0)
    for _ in range(10):
        lane.ledger.capture()
        lane.ledger.take_up()
        lane.ledger.infer()
    site.rates.tick([lane], now=12.0)
    code, headers, body = site.ask("/status")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    document = json.loads(body)
    assert document["version"] == "1.2.3"
    assert document["uptime"] >= 60
    assert document["healthy"] is True
    assert document["engine"]["backend"] == "onnxruntime-cpu"
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
    site.streams = [stream("gate", state=StreamState.RECONNECTING)]
    assert json.loads(site.ask("/status")[2])["streams"]["gate"]["frame_age"] is None


def test_status_before_the_engine_is_loaded(site: Site) -> None:
    site.engine = None
    document = json.loads(site.ask("/status")[2])
    assert (document["engine"], document["healthy"]) == (None, False)
    assert document["troubles"] == [NOT_LOADED]


def test_other_paths_and_methods(site: Site) -> None:
    assert site.ask("/")[0] == 404
    code, headers, _ = site.ask("/healthz", method="POST")
    assert (code, headers["Allow"]) == (405, "GET, HEAD")
    assert site.ask("/metrics", method="DELETE")[0] == 405
    assert site.ask("/healthz", method="HEAD")[::2] == (200, "")
    assert site.ask("/metrics", method="HEAD")[::2] == (200, "")


def test_no_page_waits_for_the_pipeline(site: Site) -> None:
    """All answer while a stage holds the lane's own lock, as one stuck in a sink might."""
    with site.streams[0].lane._lock:
        for path in ("/metrics", "/healthz", "/readyz", "/status"):
            assert site.ask(path)[0] == 200


def test_idle_clients_get_no_threads_of_their_own(site: Site) -> None:
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", site.server.port)) for _ in range(40)]
    try:
        assert site.ask("/healthz")[0] == 200
        assert threading.active_count() == before
    finally:
        for connection in idle:
            connection.close()


def test_a_port_in_use_stops_the_start() -> None:
    first = HttpServer(ANY_PORT, lambda _environ, _start: [])
    taken = Address("127.0.0.1", first.port)
    try:
        with pytest.raises(StartupError) as error:
            HttpServer(taken, lambda _environ, _start: [])
        assert str(error.value) == (
            f"metrics.listen {taken} can't be bound: address already in use; "
            "choose another or stop the program that has it"
        )
    finally:
        first.close()
    HttpServer(taken, lambda _environ, _start: []).close()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (Address("203.0.113.1", 0), "cannot assign requested address"),
        (Address("no-such-host.invalid", 0), "no such host"),
    ],
)
def test_an_address_of_another_machine(address: Address, why: str) -> None:
    with pytest.raises(
        StartupError, match=re.escape(f"page.listen {address} can't be bound: {why}")
    ):
        HttpServer(address, lambda _environ, _start: [], key="page.listen")


def test_a_port_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kw: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(StartupError, match="permission denied; choose a port from 1024 up"):
        HttpServer(Address("127.0.0.1", 80), lambda _environ, _start: [])


def test_ipv6_where_there_is_any() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    server = HttpServer(Address("::1", 0), lambda _environ, _start: [])
    socket.create_connection(("::1", server.port)).close()
    server.close()


def test_close_leaves_no_thread_and_frees_the_port(site: Site) -> None:
    port = site.server.port
    open_connection = socket.create_connection(("127.0.0.1", port))
    threads = [t for t in threading.enumerate() if t.name.startswith(("http", "waitress"))]
    assert threads
    site.server.close()
    site.server.close()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    open_connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_server_that_never_started_closes() -> None:
    server = HttpServer(ANY_PORT, lambda _environ, _start: [])
    server.close()
    server.close()


def test_a_server_for_which_there_is_no_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = HttpServer(ANY_PORT, lambda _environ, _start: [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StartupError, match=r"no thread for http: .*TasksMax="):
        server.start()
    server.close()


def test_idle_inference_is_healthy() -> None:
    clock = FakeClock()
    progress = Progress(clock)
    for _ in range(100):
        clock.now += 1
        progress.tick(waiting=0)
    clock.now += 1
    progress.tick(waiting=1)  # the first frame in 100 s: inference had no reason to beat
    assert health(True, progress, StorageStatus()) == Verdict(True)


def test_slow_inference_is_healthy() -> None:
    clock = FakeClock()
    progress = Progress(clock)
    for _ in range(20):
        clock.now += 9
        progress.beat(0.0)
        progress.tick(waiting=1)
    assert health(True, progress, StorageStatus()) == Verdict(True)


@pytest.mark.parametrize(("took", "limit"), [(0.05, 9), (10.0, 30)])
def test_a_batch_may_take_a_multiple_of_what_batches_took(took: float, limit: int) -> None:
    clock = FakeClock()
    progress = Progress(clock)
    progress.beat(took)
    clock.now += limit
    progress.tick(waiting=3)
    assert health(True, progress, StorageStatus()) == Verdict(True)
    clock.now += 1
    progress.tick(waiting=3)
    trouble = f"inference has not moved for {limit + 1}.0 s while 3 frames wait"
    assert health(True, progress, StorageStatus()) == Verdict(False, (trouble,))
    for _ in range(16):  # a slow batch is forgotten
        progress.beat(0.05)
    clock.now += 9.5
    progress.tick(waiting=3)
    assert not health(True, progress, StorageStatus()).ok


def test_only_what_is_loaded_can_hang() -> None:
    clock = FakeClock()
    progress = Progress(clock)
    clock.now += 100
    assert health(False, progress, StorageStatus()) == Verdict(False, (NOT_LOADED,))


def test_a_disk_that_hangs_is_told_and_no_reason_to_be_restarted() -> None:
    assert health(True, Progress(), StorageStatus(hung=True)) == Verdict(True, (STORAGE_HUNG,))


def test_a_hung_supervisor_is_unhealthy() -> None:
    clock = FakeClock()
    progress = Progress(clock)
    clock.now += 11
    verdict = health(True, progress, StorageStatus())
    assert verdict == Verdict(False, ("the supervisor has not moved for 11.0 s",))


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


def test_a_stalled_stream_is_not_ready_before_capture_says_so() -> None:
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

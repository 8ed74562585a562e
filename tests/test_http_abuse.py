"""The server of the pages against clients that mean no good, or are broken."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waitress import wasyncore

from centernetd.config import Address
from centernetd.flow import StorageStatus
from centernetd.service.http import LIMITS, HttpServer, _Server
from tests.test_pages import Site

LOCAL = "127.0.0.1"
LARGE = 12 * 2**20  # more than the kernel keeps for a client that doesn't read
HEADERS = 16384  # bytes that a request's head may have


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(StorageStatus())
    site.server.start()
    yield site
    site.server.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A server that gives a client a second, and answers with much."""
    monkeypatch.setitem(LIMITS, "channel_timeout", 1)

    def app(_environ: object, start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [("Content-Length", str(LARGE))])
        return [bytes(LARGE)]

    server = HttpServer(Address(LOCAL, 0), app)
    server.start()
    yield server
    server.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection((LOCAL, port), timeout=30)


def answer_to(port: int, sent: bytes) -> bytes:
    """Say something, end, and return what is answered; a reset ends it as well."""
    answer = b""
    with connect(port) as connection, suppress(OSError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            answer += part
    return answer


def code(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def assert_well(site: Site) -> None:
    assert site.ask("/healthz")[0] == 200


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_two_hundred_idle_clients_cost_nothing(site: Site) -> None:
    threads = set(threading.enumerate())
    with ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(connect(site.server.port))
        assert_well(site)
        assert site.ask("/metrics")[0] == 200
        assert set(threading.enumerate()) <= threads


def test_beyond_the_limit_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "connection_limit", 10)
    site = Site(StorageStatus())
    site.server.start()
    idle = [connect(site.server.port) for _ in range(30)]
    try:
        late = connect(site.server.port)
        late.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert late.recv(100).startswith(b"HTTP/1.0 200")
        late.close()
        assert ended(idle[0])
    finally:
        for connection in idle:
            connection.close()
        site.server.close()


def test_a_request_that_never_ends_is_cut_off(hasty: HttpServer) -> None:
    """A byte now and then, a blank line now and then: neither keeps a connection open."""
    for drop in (b"x", b"\r\n"):
        with connect(hasty.port) as connection:
            connection.settimeout(0.05)
            if drop == b"x":
                connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            deadline = time.monotonic() + 60
            while True:
                assert time.monotonic() < deadline
                try:
                    connection.sendall(drop)
                    if ended(connection):
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break


def test_an_answer_that_is_never_read_is_given_up(hasty: HttpServer) -> None:
    with connect(hasty.port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(8) == b"HTTP/1.1"
        deadline = time.monotonic() + 60
        while hasty._server.active_channels:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        received = 0
        with suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += len(chunk)
    assert 0 < received < LARGE


SLOW: dict[str, Callable[[socket.socket], object]] = {
    "reads nothing": lambda _client: None,
    "reads a byte now and then": lambda client: client.recv(1),
    "announces that it sends no more": lambda client: client.shutdown(socket.SHUT_WR),
}


@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("http", [b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive"])
def test_clients_that_ask_much_and_read_nothing_keep_nobody_waiting(
    hasty: HttpServer, http: bytes, behave: Callable[[socket.socket], object]
) -> None:
    """More of them than there are workers, each with more requests than buffers hold answers."""
    with ExitStack() as clients:
        for _ in range(6):
            client = clients.enter_context(connect(hasty.port))
            client.sendall(b"GET / %b\r\nHost: x\r\n\r\n" % http * 300)
            assert client.recv(8, socket.MSG_WAITALL)[:7] == b"HTTP/1."
            behave(client)
        for _ in range(3):
            assert code(answer_to(hasty.port, b"GET / HTTP/1.0\r\n\r\n")) == 200
        deadline = time.monotonic() + 60
        while hasty._server.active_channels:
            assert time.monotonic() < deadline
            time.sleep(0.05)


ASKED = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\na\r\n\r\nb"
)
ANSWERED = [b"200 OK", b"404 Not Found", b"405 Method Not Allowed"]


@pytest.mark.parametrize("size", [10**6, 1000, 37])
def test_requests_that_come_together_are_answered_in_turn(site: Site, size: int) -> None:
    """However they are cut, with bodies and without."""
    sent, answer = ASKED * 200, b""
    with connect(site.server.port) as connection:

        def send() -> None:
            for at in range(0, len(sent), size):
                connection.sendall(sent[at : at + size])

        sender = threading.Thread(target=send)
        sender.start()
        while answer.count(b"HTTP/1.1 ") < 600:
            part = connection.recv(65536)
            assert part
            answer += part
        sender.join()
    assert re.findall(rb"HTTP/1\.1 ([^\r]+)", answer) == ANSWERED * 200


class FakeChannel:
    """A connection as the server sees it that lets go of those whose time is over."""

    def __init__(self, since: float) -> None:
        self.since, self.closed = since, False

    def handle_close(self) -> None:
        self.closed = True


def test_time_runs_from_the_last_whole_request() -> None:
    channels = {
        "new": FakeChannel(since=80),
        "silent": FakeChannel(since=69),
    }
    connections: dict[int, Any] = {}
    server = _Server(lambda _environ, _start: [], socket.create_server((LOCAL, 0)), connections)
    server.active_channels = channels
    server._close_overdue(overdue=70.0)
    assert channels["silent"].closed
    assert not channels["new"].closed
    server.task_dispatcher.shutdown()
    asking: Any = FakeChannel(since=0)
    server.add_task(asking)
    wasyncore.close_all(connections)
    assert asking.since > 0


@pytest.mark.parametrize("leap", [86400.0, -86400.0])
def test_a_clock_that_is_set_ends_no_connection_and_keeps_none(
    hasty: HttpServer, monkeypatch: pytest.MonkeyPatch, leap: float
) -> None:
    now = time.time
    with connect(hasty.port) as silent, connect(hasty.port) as early:
        monkeypatch.setattr(time, "time", lambda: now() + leap)
        early.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert early.recv(12, socket.MSG_WAITALL) == b"HTTP/1.0 200"
        assert ended(silent)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /healthz HTTP/1.1\r\nX: ".ljust(HEADERS, b"x"), 431),
        (b"GET /".ljust(HEADERS, b"x"), 431),
        (b"POST /healthz HTTP/1.1\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, 413),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"get /healthz HTTP/1.1\r\n\r\n", 400),
        (b"TRACE /healthz HTTP/1.1\r\n\r\n", 405),
        (b"CONNECT box:1 HTTP/1.1\r\n\r\n", 405),
        (b"PROPFIND /status HTTP/1.1\r\n\r\n", 405),
        (b"PUT /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET http://elsewhere/healthz HTTP/1.1\r\n\r\n", 200),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /healthz%00 HTTP/1.1\r\n\r\n", 404),
        (b"GET /readyz?stream=../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /readyz?stream=" + b"%ff%fe" * 1000 + b" HTTP/1.1\r\n\r\n", 404),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
def test_a_bad_request_gets_its_code_and_nothing_more(
    site: Site, sent: bytes, expected: int
) -> None:
    answer = answer_to(site.server.port, sent)
    assert code(answer) == expected
    for telling in (b"Traceback", b"waitress", b"Python", b"root:"):
        assert telling not in answer
    assert_well(site)


def test_markup_in_a_name_comes_back_as_plain_text(site: Site) -> None:
    code, headers, body = site.ask("/readyz?stream=%3Cscript%3Ealert(1)%3C/script%3E")
    assert (code, headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" in body


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sent=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                *(b"GET ", b"/metrics", b"/readyz?stream=", b" HTTP/1.1", b" HTTP/9.9", b"\r\n"),
                *(b"Host: ", b"Accept: application/openmetrics-text;version=", b"Content-Length: "),
                *(b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"-1", b"\x00", b"\n"),
                *(b"Connection: close", b"\xff", b" ", b"%", b":"),
            ]
        ),
        max_size=20,
    ).map(b"".join)
)
def test_whatever_is_sent_it_goes_on(site: Site, sent: bytes) -> None:
    answer = answer_to(site.server.port, sent)
    assert answer == b"" or 200 <= code(answer) < 600
    assert answer == b"" or code(answer) != 500, answer
    assert_well(site)

"""The HTTP server: its address, its threads and its end."""

import errno
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import pytest

from centernetd.config import Address
from centernetd.errors import StartupError
from centernetd.service.http import HttpServer

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    def app(_environ: object, start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [])
        return [b"ok"]

    server = HttpServer(ANY_PORT, app)
    server.start()
    yield server
    server.close()


def test_idle_clients_get_no_threads_of_their_own(server: HttpServer) -> None:
    before = set(threading.enumerate())
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    try:
        busy = HTTPConnection("127.0.0.1", server.port, timeout=10)
        busy.request("GET", "/")
        assert busy.getresponse().read() == b"ok"
        busy.close()
        assert set(threading.enumerate()) <= before
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


def test_close_leaves_no_thread_and_frees_the_port(server: HttpServer) -> None:
    port = server.port
    open_connection = socket.create_connection(("127.0.0.1", port))
    threads = [t for t in threading.enumerate() if t.name.startswith(("http", "waitress"))]
    assert threads
    server.close()
    server.close()
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


def test_a_server_for_which_there_is_no_thread_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = HttpServer(ANY_PORT, lambda _environ, _start: [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StartupError, match=r"no thread for http: .*TasksMax="):
        server.start()
    server.close()

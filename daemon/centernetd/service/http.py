"""An HTTP server with a fixed number of threads."""

import errno
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from centernetd.config import Address
from centernetd.errors import StartupError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LIMITS = {
    "threads": 2,
    "connection_limit": 256,
    "channel_timeout": 30,  # seconds for a whole request, and for its answer to be read
    "max_request_header_size": 16384,
    "max_request_body_size": 1024,
    "asyncore_use_poll": True,  # select() fails past the 1024th descriptor
    "ident": None,
}

_ADVICE = {
    errno.EADDRINUSE: "choose another or stop the program that has it",
    errno.EADDRNOTAVAIL: "choose an address of this machine, 127.0.0.1 or 0.0.0.0",
    errno.EACCES: "choose a port from 1024 up",
}


# It logs requests that wait and clients that leave, as many as anybody likes.
logging.getLogger("waitress").setLevel(logging.ERROR)


class _Connection(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A client; ``since`` is when it came, or sent its last whole request (monotonic).

    Of several requests that come together, each is looked at when the answer to the one before has
    been sent: waitress would answer them all, and have a worker wait until the client reads.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - waitress's own
        self.since = time.monotonic()
        self._unseen = b""
        super().__init__(*args, **kwargs)

    def received(self, data: bytes) -> bool:
        """Take ``data`` up to the first end of a request's head."""
        head, end, self._unseen = data.partition(b"\r\n\r\n")
        return bool(super().received(head + end))

    def readable(self) -> bool:
        """Whether to receive; asked at each turn of the I/O thread, even where just closed.

        To say yes then would have the next client closed, who gets the same descriptor.
        """
        return bool(self.connected and not self._unseen and super().readable())

    def writable(self) -> bool:
        """Whether to call `handle_write`; asked at each turn of the I/O thread."""
        waiting = super().writable() or (self._unseen and super().readable())
        return bool(self.connected and waiting)

    def handle_write(self) -> None:
        """Send what there is, and then look at the next request."""
        super().handle_write()
        if self._unseen and super().readable():
            self.received(self._unseen)


class _Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """waitress with a deadline for a request and its answer as a whole, and room for newcomers.

    Its own deadline counts from the last byte, and lets nobody go who reads nothing: one byte now
    and then, or none, would keep a client's place for ever. And it goes by the wall clock, which
    may be set: forward, that would end every connection, and backward none any more.
    """

    channel_class = _Connection

    def __init__(self, app: "WSGIApplication", bound: socket.socket, map: dict[int, Any]) -> None:
        limits = Adjustments(sockets=[bound], **LIMITS)
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(limits.threads)
        sockinfo = (bound.family, bound.type, bound.proto, bound.getsockname())
        super().__init__(
            app,
            map=map,
            _sock=bound,
            dispatcher=dispatcher,
            adj=limits,
            sockinfo=sockinfo,
            bind_socket=False,
        )

    def add_task(self, task: _Connection) -> None:
        """Note when a connection has said a whole request."""
        task.since = time.monotonic()
        super().add_task(task)

    def readable(self) -> bool:
        """Whether to accept connections; asked at each turn of the I/O thread, once a second."""
        self._let_go(time.monotonic() - self.adj.channel_timeout)
        return bool(self.accepting)

    def _let_go(self, overdue: float) -> None:
        """Close the connections of before ``overdue`` (monotonic), and the oldest for a new one."""
        oldest_first = sorted(self.active_channels.values(), key=lambda channel: channel.since)
        too_many = len(oldest_first) + 1 - self.adj.connection_limit
        for place, channel in enumerate(oldest_first):
            if place < too_many or channel.since < overdue:
                channel.handle_close()


class HttpServer:
    """Serves ``app`` on ``listen``, one I/O thread and two workers whatever clients do.

    The address is taken when the server is made, so that a port in use stops the start;
    requests that come before `start` wait. ``key`` names the setting in errors.

    Raises
    ------
    StartupError
        When the address can't be bound.
    """

    def __init__(
        self, listen: Address, app: "WSGIApplication", key: str = "metrics.listen"
    ) -> None:
        self._app = app
        self._socket = bind(listen, key)
        self._connections: dict[int, Any] = {}
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port, also where the system chose it."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Serve in threads of its own from now on."""
        self._server = _Server(self._app, self._socket, self._connections)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, close every connection and wait for the threads; idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            # Workers first: a worker that ends its request later would wake the I/O thread
            # through a descriptor that is closed by then.
            self._server.task_dispatcher.shutdown(timeout=1)
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._connections))
            thread.join()
        self._socket.close()


def bind(listen: Address, key: str) -> socket.socket:
    """Return a socket that listens there; raises StartupError naming ``key``."""
    try:
        found = socket.getaddrinfo(*listen, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=64)
    except socket.gaierror:
        why, advice = "no such host", "give an address of this machine"
    except OSError as error:
        code = error.errno or 0
        why, advice = os.strerror(code).lower(), _ADVICE.get(code, "choose another")
    raise StartupError(f"{key} {listen} can't be bound: {why}; {advice}")

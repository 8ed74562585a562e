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
from centernetd.flow.worker import starting

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


# It logs every request that waits and every client that leaves, without a limit.
logging.getLogger("waitress").setLevel(logging.ERROR)


class _Connection(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A client; ``since`` is when it connected or sent its last whole request (monotonic).

    Pipelined requests are parsed one by one, each after the previous answer was sent. waitress
    would answer all of them, and block a worker until the client reads.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - waitress's own
        self.since = time.monotonic()
        self._unseen = b""
        super().__init__(*args, **kwargs)

    def received(self, data: bytes) -> bool:
        """Parse ``data`` up to the end of the first request head."""
        head, end, self._unseen = data.partition(b"\r\n\r\n")
        return bool(super().received(head + end))

    def readable(self) -> bool:
        """Whether to receive; called on each turn of the I/O thread, even when just closed.

        Returning True then would close the next client that gets the same descriptor.
        """
        return bool(self.connected and not self._unseen and super().readable())

    def writable(self) -> bool:
        """Whether to call `handle_write`; called on each turn of the I/O thread."""
        waiting = super().writable() or (self._unseen and super().readable())
        return bool(self.connected and waiting)

    def handle_write(self) -> None:
        """Send pending output, then parse the next request."""
        super().handle_write()
        if self._unseen and super().readable():
            self.received(self._unseen)


class _Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """waitress with a deadline for each request and its answer, and room for new clients.

    waitress' own deadline counts from the last byte and never closes a client that reads nothing:
    one byte now and then, or none, would hold a connection forever. It also uses the wall clock:
    setting that forward would close every connection, setting it back would keep them all.
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
        """Note when a connection has sent a whole request."""
        task.since = time.monotonic()
        super().add_task(task)

    def readable(self) -> bool:
        """Whether to accept connections; called on each turn of the I/O thread, once per second."""
        self._close_overdue(time.monotonic() - self.adj.channel_timeout)
        return bool(self.accepting)

    def _close_overdue(self, overdue: float) -> None:
        """Close connections whose `since` is before ``overdue``, and the oldest if too many."""
        oldest_first = sorted(self.active_channels.values(), key=lambda channel: channel.since)
        too_many = len(oldest_first) + 1 - self.adj.connection_limit
        for place, channel in enumerate(oldest_first):
            if place < too_many or channel.since < overdue:
                channel.handle_close()


class HttpServer:
    """Serves ``app`` on ``listen`` with one I/O thread and two workers, whatever clients do.

    The constructor binds the address, so that a port in use fails the startup; requests that
    arrive before `start` wait. ``key`` names the setting in errors.

    Raises
    ------
    StartupError
        If the address can't be bound.
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
        """The port, even if chosen by the system."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Start serving, in separate threads; raises StartupError if there are none."""
        with starting("http"):
            self._server = _Server(self._app, self._socket, self._connections)
            thread = threading.Thread(target=self._server.run, name="http", daemon=True)
            thread.start()
        self._thread = thread

    def close(self) -> None:
        """Stop serving, close every connection and wait for the threads; idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            # Workers first: a worker that finished its request later would wake the I/O thread
            # through a descriptor that is already closed.
            self._server.task_dispatcher.shutdown(timeout=1)
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._connections))
            thread.join()
        self._socket.close()


def bind(listen: Address, key: str) -> socket.socket:
    """Return a listening socket; raises StartupError naming ``key``."""
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

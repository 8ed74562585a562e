"""A relay that speaks TLS with a self-signed certificate, as cameras do, before a plain server."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.tools import tool


def _certificate(folder: Path) -> ssl.SSLContext:
    """Return what a server needs that vouches for itself."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["-keyout", str(key), "-out", str(certificate)]
    command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made]
    subprocess.run([*command, "-days", "2", "-subj", "/CN=camera"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int, folder: Path) -> Iterator[int]:
    """Pass what comes on to ``port``; yields the port on which TLS is spoken, to one client."""
    context = _certificate(folder)

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with (
                context.wrap_socket(connection, server_side=True) as client,
                socket.create_connection(("127.0.0.1", port)) as server,
            ):
                back = threading.Thread(target=_pass_on, args=(server, client))
                back.start()
                _pass_on(client, server)
                back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            serving.join()

"""What a running daemon reports: finding it, asking it, and the table of `centernetd status`."""

import json
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from centernetd.config import Address, listen_of
from centernetd.errors import StartupError

INSTALLED = Path("/etc/centernetd/config.yaml")
USUAL = Address("127.0.0.1", 10864)
HEADING = ("stream", "state", "frames/s", "last frame", "captured", "lost", "lost connections", "")
Document = Mapping[str, Any]

_TIMEOUT = 5.0  # seconds to connect, and for each read
_MAX_PAGE_SIZE = 64 * 2**20
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound to here


class Daemon:
    """A daemon that serves its pages at ``address``."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def page(self, path: str) -> str:
        """Return the body of a page, whatever its status code: a 503 has a useful body.

        Raises
        ------
        StartupError
            The daemon doesn't answer.
        """
        connection = HTTPConnection(*self.address, timeout=_TIMEOUT)
        try:
            connection.request("GET", path)
            return connection.getresponse().read(_MAX_PAGE_SIZE).decode(errors="replace")
        except (OSError, HTTPException) as error:
            raise StartupError(
                f"no centernetd answers at {self.address}: {_reason(error)}; is it running, and "
                "is that its metrics.listen? Give another with --url, or its configuration with -c"
            ) from None
        finally:
            connection.close()


def find_daemon(config: Path | None, url: str | None, installed: Path = INSTALLED) -> Daemon:
    """Return the daemon at ``url``, or the one that uses a configuration.

    The configuration is ``config``, else ./config.yaml, else the ``installed`` one. Without
    any of them, the default address is used.

    Raises
    ------
    ConfigError
        The configuration can't be read.
    StartupError
        It has no ``metrics.listen``, or ``url`` is invalid.
    """
    if url is not None:
        return Daemon(_address_in(url))
    file = config or find_config(installed)
    if file is None:
        return Daemon(USUAL)
    listen = listen_of(file)
    if listen is None:
        raise StartupError(f"{file}: metrics.listen is null, so that daemon can't be queried")
    return Daemon(listen._replace(host=_EVERY_ADDRESS.get(listen.host, listen.host)))


def find_config(installed: Path = INSTALLED) -> Path | None:
    """Return ./config.yaml, otherwise the installed configuration, otherwise None."""
    return next((file for file in (Path("config.yaml"), installed) if file.is_file()), None)


def _address_in(url: str) -> Address:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "http":
        raise StartupError(
            f"{url} is not the address of a daemon: write it as in http://127.0.0.1:10864"
        )
    return Address(host, port or USUAL.port)


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "the server there does not speak HTTP"


def read(body: str) -> Document:
    """Return the document in the body of /status; raise `StartupError` if it is invalid."""
    try:
        document = json.loads(body)
        rows(document)
        headline(document)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StartupError("the server there is not centernetd, or another version of it") from None
    return dict(document)


def headline(document: Document) -> str:
    """Return a one-line summary of the daemon."""
    model_runs = "{backend} in {precision} on {device}, because {reason}".format
    # Several models usually run on the same.
    all_run = {model_runs(**model): None for model in document["models"].values()}
    runs = "; ".join(all_run) or "the engine is not loaded yet"
    troubles = "; ".join(document["troubles"])
    condition = "healthy" if document["healthy"] else f"NOT HEALTHY: {troubles}"
    up = _span(document["uptime"])
    return f"centernetd {document['version']}, started {up} ago, {condition}; {runs}"


def rows(document: Document) -> list[tuple[str, ...]]:
    """Return a row for each stream, in the columns of `HEADING`."""
    return [_row(name, stream) for name, stream in document["streams"].items()]


def _row(name: str, stream: Document) -> tuple[str, ...]:
    return (
        name,
        stream["state"] if stream["fresh"] or stream["state"] != "running" else "silent",
        f"{stream['fps']:.1f}",
        "never" if stream["frame_age"] is None else f"{_span(stream['frame_age'])} ago",
        str(stream["captured"]),
        ", ".join(_lost(stream["dropped"])) or "0",
        str(stream["lost_connections"]),
        stream["last_error"] or "",
    )


def _lost(dropped: Mapping[str, int]) -> Iterator[str]:
    """Yield counts of dropped frames by place and reason, except unwanted ones."""
    for place, count in dropped.items():
        if not place.endswith("/unwanted"):
            yield f"{count} {place}"


def _span(seconds: float) -> str:
    """Return a duration in its largest sensible unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"

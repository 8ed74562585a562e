"""HTTP client for the pages of a running daemon."""

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from centernetd.config import Address, listen_of
from centernetd.errors import StartupError

INSTALLED = Path("/etc/centernetd/config.yaml")
USUAL = Address("127.0.0.1", 10864)

_TIMEOUT = 5.0  # seconds to connect, and for each read
_LONGEST = 64 * 2**20
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
            return connection.getresponse().read(_LONGEST).decode(errors="replace")
        except (OSError, HTTPException) as error:
            raise StartupError(
                f"no centernetd answers at {self.address}: {_reason(error)}; is it running, and "
                "is that its metrics.listen? Name another with --url or its configuration with -c"
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
        raise StartupError(f"{file}: metrics.listen is null, so that daemon can't be asked")
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
            f"{url} is no address of a daemon: write it as in http://127.0.0.1:10864"
        )
    return Address(host, port or USUAL.port)


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "what answers is no HTTP server"

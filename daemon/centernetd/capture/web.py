"""HTTP for sources, limited in time, bytes and hosts."""

import http.client
import io
import socket
import ssl
import string
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.cookiejar import CookieJar
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit

from centernetd.config.secret import SourceUri
from centernetd.errors import SourceError

SHARE = 0.9
"""Part of ``stall_timeout`` a library may use; the rest is for detecting the timeout."""
MAX_BYTES_PER_PICTURE = 64 << 20
"""Limit read from a server per picture: an 8K picture as JPEG takes about 30 MB."""
_CHUNK = 1 << 16
_MAX_COOKIES = 50


class Allowance:
    """The seconds and bytes left for the next picture."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.renew()

    def renew(self) -> None:
        """Restart the limits: a picture has been decoded."""
        self._until, self._left = time.monotonic() + SHARE * self.timeout, MAX_BYTES_PER_PICTURE

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._until

    def seconds(self) -> float:
        """Return the seconds left; raise TimeoutError if time is up."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def spend(self, count: int) -> None:
        """Deduct ``count`` bytes; raise SourceError if the limit is exceeded."""
        self._left -= count
        if self._left < 0:
            raise SourceError(
                f"sent {MAX_BYTES_PER_PICTURE >> 20} MB without a picture", "over_limit"
            )

    def wait(self, seconds: float) -> None:
        """Sleep ``seconds``, but no longer than the time left."""
        time.sleep(min(seconds, self.seconds()))


class HttpClient:
    """Makes the HTTP requests of one source.

    Redirects and playlists may lead to the source's own host and port and to ``hosts``, each
    ``host`` (its ports 80 and 443) or ``host:port``. Passwords are sent to its own host only.
    """

    def __init__(self, uri: SourceUri, hosts: Sequence[str], allowance: Allowance) -> None:
        self.url = uri.without_login()
        self.allowance = allowance
        self._allowed = {_origin(self.url), *(_origin(f"//{host}") for host in hosts)}
        self._cookies = CookieJar()
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if login := uri.login():
            passwords.add_password(None, urljoin(self.url, "/"), *login)
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _Connecting(allowance),
            urllib.request.HTTPCookieProcessor(self._cookies),
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.HTTPBasicAuthHandler(passwords),
            _CloseUnread(),
            _Redirects(self),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            self._opener.add_handler(handler)

    def check(self, url: str) -> None:
        """Raise SourceError unless ``url`` may be requested."""
        try:
            scheme, (host, port) = urlsplit(url).scheme, _origin(url)
        except ValueError:
            raise SourceError("leads to an invalid URL", "open_failed") from None
        if scheme not in ("http", "https"):
            raise SourceError(f"leads to {scheme[:20]}:, which is not followed", "open_failed")
        if (host, port) not in self._allowed:
            where = host[:100] if port is None else f"{host[:100]}:{port}"
            why = f"leads to {where}: if that is meant, add it to follow_hosts"
            raise SourceError(why, "open_failed")

    def open(self, url: str, byte_range: str | None = None) -> http.client.HTTPResponse:
        """Send a GET request and return the response; read its content with `chunks`.

        Raises
        ------
        SourceError
            When the request fails, or the response is an error or compressed.
        """
        self.check(url)
        if len(self._cookies) > _MAX_COOKIES:
            self._cookies.clear()
        headers = {"User-Agent": "centernetd", "Accept": "*/*"}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range}"
        request = urllib.request.Request(quote(url, safe=string.punctuation), headers=headers)  # noqa: S310
        try:
            response: http.client.HTTPResponse = self._opener.open(
                request, timeout=self.allowance.seconds()
            )
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            why, reason = _explain(error, self.allowance.timeout)
            raise SourceError(f"can't be opened: {why}", reason) from None
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            response.close()
            raise SourceError("is sent compressed, which is not read", "open_failed")
        return response

    def skip(self, response: http.client.HTTPResponse, count: int) -> None:
        """Discard ``count`` bytes, which use up time only; raise as `chunks` does."""
        try:
            while count and (data := response.read1(min(count, _CHUNK))):
                count -= len(data)
        except (OSError, http.client.HTTPException, ValueError):
            response.close()
            raise SourceError("the connection was lost", "read_failed") from None

    def chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the content as it arrives, then close the response.

        Raises
        ------
        SourceError
            When the allowance is used up (``stalled``, ``over_limit``) or the connection is lost
            (``read_failed``).
        """
        try:
            while data := response.read1(_CHUNK):
                self.allowance.spend(len(data))
                yield data
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except TimeoutError:
            why = f"no picture for {self.allowance.timeout:g} s"
            raise SourceError(why, "stalled") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise SourceError("the connection was lost", "read_failed") from None
        finally:
            response.close()


class _TimedInput(io.RawIOBase):
    """A socket's input; no read outlasts the allowance."""

    def __init__(self, inner: IO[bytes], sock: socket.socket, allowance: Allowance) -> None:
        self._inner, self._sock, self._allowance = inner, sock, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(self._allowance.seconds())
        return int(self._inner.readinto1(buffer))  # type: ignore[attr-defined]

    def close(self) -> None:
        self._inner.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, allowance: Allowance, sock: socket.socket, **more: object) -> None:
        super().__init__(sock, **more)  # type: ignore[arg-type]
        self.fp = io.BufferedReader(_TimedInput(self.fp, sock, allowance), _CHUNK)


class _Connecting(urllib.request.AbstractHTTPHandler):
    """Opens connections. Certificates are not verified, as those of cameras are self-signed."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self._allowance = allowance
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        kind = partial(http.client.HTTPSConnection, context=self._tls)
        return self.do_open(partial(self._connection, kind), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connection(
        self, kind: Callable[..., http.client.HTTPConnection], host: str, **more: object
    ) -> http.client.HTTPConnection:
        connection = kind(host, **more)
        connection.response_class = partial(_TimedResponse, self._allowance)  # type: ignore[assignment]
        return connection


class _CloseUnread(urllib.request.BaseHandler):
    """Closes redirects and 401 responses before other handlers would read them entirely."""

    handler_order = 100

    def http_error_401(self, _request: object, response: IO[bytes], *_: object) -> None:
        response.close()

    http_error_301 = http_error_302 = http_error_303 = http_error_401
    http_error_307 = http_error_308 = http_error_401


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed URLs."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self._client.check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(url: str) -> tuple[str, int | None]:
    """Return host and port; None for 80 and 443, so that http may lead to https."""
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), None if parts.port in (80, 443) else parts.port


def _explain(error: Exception, timeout: float) -> tuple[str, str]:
    """Return why a request failed, worded to suggest the fix, and the reason code."""
    if isinstance(error, HTTPError):
        error.close()
        answer = f"the server answers {error.code}"
        if error.code in (401, 403):
            return f"the name or password is wrong, or lacks permission: {answer}", "unauthorized"
        if error.code in (404, 410):
            return f"there is nothing at this path: {answer}", "not_found"
        # A redirect in circles, without an address, or to something other than HTTP.
        return f"{answer}, which leads nowhere" if error.code < 400 else answer, "open_failed"
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no answer for {timeout:g} s", "unreachable"
    if isinstance(error, socket.gaierror):
        return "the host name is unknown", "unreachable"
    if isinstance(error, ssl.SSLError):
        return "no encrypted connection could be negotiated", "open_failed"
    if isinstance(error, OSError):
        return (error.strerror or "the connection was lost").lower(), "unreachable"
    return "the server does not speak HTTP", "open_failed"

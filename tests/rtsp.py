"""A scripted RTSP server (RFC 2326) that sends video as RTP over its connections."""

import base64
import itertools
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import md5

from tests.footage import moving_square as moving_square
from tests.footage import standing_still
from tests.rtp import CLOCK, PAYLOAD_TYPE, SOUND_RATE
from tests.rtp import Video as Video
from tests.rtsp_scripts import SCRIPTS, Reel

_USER, _PASSWORD = "viewer", "Hemlig/7"  # of what is locked
_REALM, _NONCE = "camera", "4f1c"


@dataclass(frozen=True)
class Request:
    """What a client asks: an RTSP method for a path, with the headers that matter here."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def behaviour(self) -> str:
        return self.path.removeprefix("locked/").split("/")[0]

    @property
    def allowed(self) -> bool:
        """Whether what is locked is asked for with the right password (RFC 2617, digest)."""
        if not self.path.startswith("locked/"):
            return True
        given = dict(re.findall(r'(\w+)="([^"]*)"', self.headers.get("Authorization", "")))
        secret = _hash(f"{_USER}:{_REALM}:{_PASSWORD}")
        asked = _hash(f"{self.method}:{given.get('uri', '')}")
        return given.get("response") == _hash(f"{secret}:{_NONCE}:{asked}")


@dataclass
class Visit:
    """What came of one connection; its times are the wall clock's."""

    path: str
    video: Video
    began: float
    transport: str = ""  # that was asked for
    sent: int = 0
    sent_at: float = 0.0


def _hash(text: str) -> str:
    return md5(text.encode()).hexdigest()


class RtspServer:
    """Serves one video on 127.0.0.1. The path of a URL selects what it does:

    - ``/play``: plays the video repeatedly;
    - ``/close/N``: closes the connection after N pictures;
    - ``/mute/N``: sends nothing more after N pictures;
    - ``/sound/N``: has sound along with the video, and that alone after N pictures;
    - ``/slow/N``, ``/flood/N``: sends N pictures per second, however many they should be;
    - ``/late/N``: sends each picture up to N milliseconds late;
    - ``/lose/N``: loses N of a hundred RTP packets; ``/garble/N``: noise after N pictures;
    - ``/resize/N``: has another size every other N pictures (key frames come every 10);
    - ``/recode/N``: closes the connection after N pictures; every other is one of H.265;
    - ``/frozen/N``: repeats one picture after N pictures, at a constant bit rate;
    - ``/jump/N``: has its clock an hour ahead every other N pictures;
    - ``/keyless``: plays no key frame;
    - ``/still``: gives every picture the same time;
    - ``/locked/...``: does what follows for viewer with the password Hemlig/7, else answers 401;
    - ``/silent``: takes the connection and never answers; ``/rubbish``: answers noise;
    - any other: answers 404.

    ``visits`` has every connection with a request.
    """

    def __init__(self, video: Video, port: int = 0) -> None:
        self._video = video
        self.visits: list[Visit] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._closing = threading.Event()
        self._connected = threading.Condition()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, path: str) -> str:
        """Return where ``path`` is."""
        return f"rtsp://127.0.0.1:{self.port}/{path}"

    def wait_for_connections(self, count: int, timeout: float = 30) -> None:
        """Wait until this many connections have been accepted."""
        with self._connected:
            assert self._connected.wait_for(lambda: len(self._connections) >= count, timeout)

    def visits_of(self, path: str) -> list[Visit]:
        """Return the connections that asked for ``path`` first."""
        return [visit for visit in self.visits if visit.path == path]

    def close(self) -> None:
        """Close every connection and refuse new ones."""
        self._closing.set()
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()
            with self._connected:
                self._connections.append(connection)
                self._connected.notify_all()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as requests:
            visit = None
            for request in _requests(requests):
                if visit is None:
                    visit = Visit(request.path, self._shown(request), time.time())
                    self.visits.append(visit)
                visit.transport = request.headers.get("Transport", visit.transport)
                if request.behaviour == "silent":
                    self._closing.wait()
                    return
                connection.sendall(self._answer(request, visit.video))
                if request.method == "PLAY":
                    self._play(connection, request, visit)
                    return

    def _answer(self, request: Request, video: Video) -> bytes:
        if request.behaviour == "rubbish":
            return random.Random(0).randbytes(400)
        line, head, body = "200 OK", ["Session: 1"], ""
        if not request.allowed:
            line = "401 Unauthorized"
            head = [f'WWW-Authenticate: Digest realm="{_REALM}", nonce="{_NONCE}"']
        elif request.behaviour not in SCRIPTS:
            line, head = "404 Not Found", []
        elif request.method == "OPTIONS":
            head.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif request.method == "DESCRIBE":
            body = self._description(video, sound=request.behaviour == "sound")
            head.append(f"Content-Type: application/sdp\r\nContent-Length: {len(body)}")
        elif request.method == "SETUP":
            head.append(f"Transport: {request.headers['Transport']}")
        lines = [f"RTSP/1.0 {line}", f"CSeq: {request.headers['CSeq']}", *head]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _description(self, video: Video, *, sound: bool) -> str:
        """Return the session description (RFC 4566); H.265's parameter sets come in the video."""
        sets = ",".join(base64.b64encode(unit).decode() for unit in video.parameter_sets)
        lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=test", "c=IN IP4 127.0.0.1", "t=0 0"]
        name = {"h264": "H264", "hevc": "H265"}[video.codec]
        lines += [f"m=video 0 RTP/AVP {PAYLOAD_TYPE}", f"a=rtpmap:{PAYLOAD_TYPE} {name}/{CLOCK}"]
        if video.codec == "h264":
            lines += [f"a=fmtp:{PAYLOAD_TYPE} packetization-mode=1;sprop-parameter-sets={sets}"]
        lines += [f"a=framerate:{video.rate}", "a=control:video"]
        if sound:
            lines += ["m=audio 0 RTP/AVP 0", f"a=rtpmap:0 PCMU/{SOUND_RATE}", "a=control:audio"]
        return "\r\n".join([*lines, ""])

    def _play(self, connection: socket.socket, request: Request, visit: Visit) -> None:
        """Send pictures at their pace, as many as the path requests."""
        number = visit.path.rpartition("/")[2]
        other = self._still if request.behaviour == "frozen" else self._smaller
        reel = Reel(visit.video, other, int(number) if number.isdigit() else 0)
        started = time.monotonic()
        for picture in SCRIPTS[request.behaviour](reel):
            if self._closing.wait(max(0.0, started + picture.due - time.monotonic())):
                return
            connection.sendall(picture.data)
            visit.sent, visit.sent_at = visit.sent + 1, time.time()
        if request.behaviour == "mute":
            self._closing.wait()

    def _shown(self, request: Request) -> Video:
        again = len(self.visits_of(request.path)) % 2
        return self._in_h265 if request.behaviour == "recode" and again else self._video

    @cached_property
    def _in_h265(self) -> Video:
        return moving_square(rate=self._video.rate, codec="hevc")

    @cached_property
    def _still(self) -> Video:
        return standing_still(self._video.rate)

    @cached_property
    def _smaller(self) -> Video:
        return moving_square((96, 224), rate=self._video.rate)


def _requests(lines: Iterator[bytes]) -> Iterator[Request]:
    """Yield the requests that come over a connection."""
    for line in lines:
        method, url, _ = line.decode().split(" ", 2)
        headers = dict(
            header.decode().strip().split(": ", 1)
            for header in itertools.takewhile(lambda header: header != b"\r\n", lines)
        )
        yield Request(method, re.sub(r"^rtsps?://[^/]*/", "", url), headers)


@contextmanager
def serving(video: Video, port: int = 0) -> Iterator[RtspServer]:
    """Run a server for as long as this is entered."""
    server = RtspServer(video, port)
    try:
        yield server
    finally:
        server.close()

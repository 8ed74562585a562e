"""A scripted RTSP server (RFC 2326) that sends H.264 as RTP (RFC 6184) over its connections."""

import base64
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from tests import models

_CLOCK = 90_000  # of video in RTP (RFC 3551)
_START = 0xFFFF_0000  # of its timestamps: cameras start anywhere, and here they soon wrap
_PAYLOAD_TYPE = 96
_LARGEST_PAYLOAD = 1400  # of an RTP packet: larger units are cut into FU-A fragments
_SPS, _PPS, _FU_A = 7, 8, 28  # kinds of NAL units
_START_CODE = re.compile(rb"\x00{2,3}\x01")


@dataclass(frozen=True)
class Video:
    """A closed loop of H.264 pictures: each is the list of its NAL units."""

    pictures: Sequence[Sequence[bytes]]
    rate: int

    @property
    def parameter_sets(self) -> list[bytes]:
        return [unit for unit in self.pictures[0] if unit[0] & 0x1F in (_SPS, _PPS)]


def moving_square(
    size: tuple[int, int] = (128, 160), count: int = 50, rate: int = 25, key_interval: int = 10
) -> Video:
    """Encode a red square that goes down the picture."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = size
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, rate)
    encoder.gop_size, encoder.max_b_frames = key_interval, 0
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast"}
    packets = []
    for index in range(count):
        top = 24 + index % 50
        frame = av.VideoFrame.from_ndarray(_picture(size, top), format="bgr24")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    units = [[unit for unit in _START_CODE.split(bytes(packet)) if unit] for packet in packets]
    return Video(units, rate)


def _picture(size: tuple[int, int], top: int) -> NDArray[np.uint8]:
    return models.draw(size, (0, (64, top, 96, top + 32)))


class RtspServer:
    """Serves one video on 127.0.0.1. The path of a URL says what it does:

    - ``/play``: plays the video, over and over;
    - ``/close/N``: closes the connection after N pictures;
    - ``/mute/N``: sends nothing more after N pictures;
    - ``/silent``: takes the connection and never answers;
    - any other: answers 404.
    """

    def __init__(self, video: Video, port: int = 0) -> None:
        self._video = video
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
        """Wait until so many connections have been taken."""
        with self._connected:
            assert self._connected.wait_for(lambda: len(self._connections) >= count, timeout)

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
            for method, path, sequence in _requests(requests):
                if path == "silent":
                    self._closing.wait()
                    return
                connection.sendall(self._answer(method, path, sequence))
                if method == "PLAY":
                    self._play(connection, path)
                    return

    def _answer(self, method: str, path: str, sequence: str) -> bytes:
        if path.split("/")[0] not in ("play", "close", "mute"):
            return f"RTSP/1.0 404 Not Found\r\nCSeq: {sequence}\r\n\r\n".encode()
        head = [f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\nSession: 1"]
        body = ""
        if method == "OPTIONS":
            head.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = self._description()
            head.append(f"Content-Type: application/sdp\r\nContent-Length: {len(body)}")
        elif method == "SETUP":
            head.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return ("\r\n".join(head) + "\r\n\r\n" + body).encode()

    def _description(self) -> str:
        """Return the session description (RFC 4566)."""
        sets = ",".join(base64.b64encode(unit).decode() for unit in self._video.parameter_sets)
        lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=test", "c=IN IP4 127.0.0.1", "t=0 0"]
        lines += [f"m=video 0 RTP/AVP {_PAYLOAD_TYPE}", f"a=rtpmap:{_PAYLOAD_TYPE} H264/{_CLOCK}"]
        lines += [f"a=fmtp:{_PAYLOAD_TYPE} packetization-mode=1;sprop-parameter-sets={sets}"]
        lines += [f"a=framerate:{self._video.rate}", "a=control:video"]
        return "\r\n".join([*lines, ""])

    def _play(self, connection: socket.socket, path: str) -> None:
        """Send pictures at their pace, as many as the path says."""
        behaviour, _, count = path.removesuffix("/video").partition("/")
        packets = _Packets()
        started = time.monotonic()
        for index in itertools.count() if behaviour == "play" else range(int(count)):
            due = started + index / self._video.rate
            if self._closing.wait(max(0.0, due - time.monotonic())):
                return
            picture = self._video.pictures[index % len(self._video.pictures)]
            connection.sendall(packets.of(picture, _START + index * _CLOCK // self._video.rate))
        if behaviour == "mute":
            self._closing.wait()


class _Packets:
    """Makes the RTP packets of one connection, each with the interleaving header before it."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def of(self, units: Sequence[bytes], timestamp: int) -> bytes:
        payloads = [payload for unit in units for payload in _payloads(unit)]
        last = len(payloads) - 1
        return b"".join(
            self._packet(payload, timestamp, marker=index == last)
            for index, payload in enumerate(payloads)
        )

    def _packet(self, payload: bytes, timestamp: int, *, marker: bool) -> bytes:
        kind = _PAYLOAD_TYPE | (0x80 if marker else 0)
        number = next(self._numbers) & 0xFFFF
        header = struct.pack("!BBHII", 0x80, kind, number, timestamp & 0xFFFFFFFF, 1)
        return struct.pack("!cBH", b"$", 0, len(header) + len(payload)) + header + payload


def _payloads(unit: bytes) -> Iterator[bytes]:
    """Yield a NAL unit whole, or cut into FU-A fragments."""
    if len(unit) <= _LARGEST_PAYLOAD:
        yield unit
        return
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    for start in range(1, len(unit), _LARGEST_PAYLOAD):
        part = unit[start : start + _LARGEST_PAYLOAD]
        first, last = start == 1, start + _LARGEST_PAYLOAD >= len(unit)
        yield bytes([indicator, kind | (first << 7) | (last << 6)]) + part


def _requests(lines: Iterator[bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and sequence number of each request."""
    for line in lines:
        method, url, _ = line.decode().split(" ", 2)
        headers = dict(
            header.decode().strip().split(": ", 1)
            for header in itertools.takewhile(lambda header: header != b"\r\n", lines)
        )
        path = re.sub(r"^rtsp://[^/]*/", "", url)
        yield method, path, headers["CSeq"]


@contextmanager
def serving(video: Video, port: int = 0) -> Iterator[RtspServer]:
    """Run a server for as long as this is entered."""
    server = RtspServer(video, port)
    try:
        yield server
    finally:
        server.close()

"""What a hostile HTTP server can make us read: limited in bytes, time and hosts."""

import gzip
import itertools
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from centernetd.capture import web
from centernetd.capture.open import open_stream
from centernetd.errors import SourceError
from tests import clips
from tests.capture_rig import stream
from tests.http_servers import Request, answering, forever, head

MOST = 4 << 20
SLACK = 12 << 20  # what fits into the buffers of sockets on its way
MULTIPART = "multipart/x-mixed-replace; boundary=xx"
HLS = "application/vnd.apple.mpegurl"
PART = b"--xx\r\nContent-Type: image/jpeg\r\n"


def read(url: str, timeout: float = 20.0, *hosts: str) -> list[object]:
    with closing(open_stream(stream(url, timeout, follow_hosts=hosts))) as source:
        return list(source)


def why(url: str, timeout: float = 20.0, *hosts: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(url, timeout, *hosts)
    return caught.value


@pytest.fixture
def jpeg(tmp_path: Path) -> bytes:
    return clips.jpeg(tmp_path / "a.jpg", 64, 48).read_bytes()


NOISE = bytes(range(1, 200)) * 300
# A Matroska file, and an element without meaning that is 2^56 bytes long.
_EBML = bytes.fromhex(
    "1a45dfa3010000000000001b4286810142f7810142f2810442f381084282886d6174726f736b61"
) + bytes.fromhex("1853806701ffffffffffffff" + "ec01fffffffffffffe")
_MDAT = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + struct.pack(">I4s", 0x7FFFFFFF, b"mdat")
ENDLESS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "part": lambda jpeg: itertools.chain(
        [head(MULTIPART), PART, b"\r\n", jpeg[:200]], forever(NOISE)
    ),
    "part of 2 GB": lambda jpeg: itertools.chain(
        [head(MULTIPART), PART, b"Content-Length: 2147483647\r\n\r\n", jpeg[:200]], forever(NOISE)
    ),
    "head of a part": lambda _: itertools.chain(
        [head(MULTIPART), PART], forever(b"X-Q: " + b"q" * 1000 + b"\r\n")
    ),
    "bare JPEG": lambda jpeg: itertools.chain([head("image/jpeg"), jpeg[:600]], forever(NOISE)),
    "segment of a JPEG": lambda _: itertools.chain(
        [head("image/jpeg"), b"\xff\xd8"], forever(b"\xff\xe1\xff\xff" + bytes(65533))
    ),
    "transport packet": lambda _: itertools.chain(
        [head("video/mp2t"), *_transport_stream()],
        (b"\x47\x01\x00" + bytes([0x10 | n & 15]) + NOISE[:184] for n in itertools.count()),
    ),
    "matroska": lambda _: itertools.chain([head("video/webm"), _EBML], forever(NOISE)),
    "mdat": lambda _: itertools.chain([head("video/mp4"), _MDAT], forever(NOISE)),
    "nothing known": lambda _: itertools.chain([head("video/unknown")], forever(b"\0" * 65536)),
}


def _transport_stream() -> list[bytes]:
    """Return the packets that announce a video on PID 256."""
    pat = bytes.fromhex("474000100000b00d0001c100000001f0002ab104b2")
    pmt = bytes.fromhex("475000100002b0120001c10000e100f0001be100f00015bd4d56")
    return [packet.ljust(188, b"\xff") for packet in (pat, pmt)]


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_becomes_a_picture_is_read_up_to_a_limit(
    kind: str, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_BYTES_PER_PICTURE", MOST)
    with answering(lambda _: ENDLESS[kind](jpeg)) as server:
        error = why(f"{server.url}/live")
        assert server.sent < MOST + SLACK
    assert error.reason == "over_limit" or kind == "nothing known"
    if error.reason == "over_limit":
        assert str(error) == "sent 4 MB without a picture"


def test_what_comes_with_pictures_is_not_limited(
    jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_BYTES_PER_PICTURE", 300_000)
    parts = [PART + b"\r\n" + jpeg + b"\r\n" + bytes(1000) for _ in range(800)]
    with answering(lambda _: [head(MULTIPART), *parts]) as server:
        assert len(read(f"{server.url}/live")) == 800
        assert server.sent > 4 * 300_000


def endless_playlist(_: Request) -> Iterator[bytes]:
    begin = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
    return itertools.chain([head(HLS), begin], forever(b"#EXTINF:2,\na.ts\n" * 4000))


def grows_when_asked_again() -> Callable[[Request], Iterator[bytes]]:
    begin = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
    asked: Iterator[int] = itertools.count()

    def answer(request: Request) -> Iterator[bytes]:
        if request.path.endswith(".ts"):
            return iter([head("video/mp2t")])
        if next(asked) == 0:
            return iter([head(HLS), begin, b"#EXTINF:1,\na.ts\n"])
        return endless_playlist(request)

    return answer


@pytest.mark.parametrize("answer", [endless_playlist, grows_when_asked_again()])
def test_a_playlist_has_a_limit_of_its_own(answer: Callable[[Request], Iterator[bytes]]) -> None:
    with answering(answer) as server:
        error = why(f"{server.url}/live.m3u8")
        assert server.sent < (1 << 20) + SLACK
    assert (error.reason, str(error)) == ("over_limit", "its playlist is larger than 1 MB")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_what_is_sent_compressed_is_not_unpacked(encoding: str) -> None:
    packed = gzip.compress(b"#EXTM3U\n" + b"#EXTINF:2,\na.ts\n" * 65536)
    answer = [head(HLS, f"Content-Encoding: {encoding}"), packed]
    with answering(lambda _: answer) as server:
        assert str(why(f"{server.url}/live.m3u8")) == "is sent compressed, which is not read"
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_heads_and_redirects_have_an_end() -> None:
    answers: dict[str, Callable[[], Iterable[bytes]]] = {
        "/heads": lambda: itertools.chain(
            [b"HTTP/1.1 200 OK\r\n"], forever(b"X-A: " + b"b" * 1000 + b"\r\n")
        ),
        "/line": lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nX-A: "], forever(b"b" * 1000)),
        "/status": lambda: forever(b"HTTP/1.1 "),
        "/circle": lambda: [head("text/html", "Location: /circle", status="302 Found")],
        "/long": lambda: itertools.chain(
            [head("text/html", "Location: /circle", status="302 Found")], forever(NOISE)
        ),
    }
    with answering(lambda request: answers[request.path]()) as server:
        for path in answers:
            assert why(f"{server.url}{path}").reason == "open_failed"
        assert len(server.requests) < 40
        assert server.sent < SLACK * len(answers)


@pytest.mark.parametrize("target", ["/circle", "file:///etc/passwd", "concat:a", None])
def test_a_redirect_that_leads_nowhere_is_reported_as_such(target: str | None) -> None:
    where = [] if target is None else [f"Location: {target}"]
    answer = [head("text/html", *where, status="302 Found")]
    with answering(lambda _: answer) as server:
        error = why(f"{server.url}/circle")
    assert str(error) == "can't be opened: the server answers 302, which leads nowhere"


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\n", head(MULTIPART), head(HLS) + b"#EXTM3U\n"]
)
def test_who_sends_a_byte_now_and_then_gains_no_time(begin: bytes) -> None:
    def drip(_: Request) -> Iterator[bytes]:
        yield begin
        for byte in itertools.cycle(b"X-Header: never ends"):
            time.sleep(0.05)
            yield bytes([byte])

    with answering(drip) as server:
        assert why(f"{server.url}/live", 1.0).reason in ("unreachable", "stalled")


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "tcp://127.0.0.1:22",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:1/",
        "http://127.0.0.1:1/metrics",
        "//127.0.0.1:1/",
        "http://[::1]:1/",
        "http://2130706433:1/",
        "concat:/etc/passwd",
        "http://x:y@127.0.0.1:1/",
        "http://[/",
    ],
)
def test_nothing_leads_to_another_host_port_or_protocol(target: str) -> None:
    lists = {
        "/redirect": lambda: [head("text/html", f"Location: {target}", status="307 Moved")],
        "/segment": lambda: [head(HLS), f"#EXTM3U\n#EXTINF:1,\n{target}\n".encode()],
        "/variant": lambda: [
            head(HLS),
            f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n".encode(),
        ],
        "/map": lambda: [
            head(HLS),
            f'#EXTM3U\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\na.ts\n'.encode(),
        ],
        "/key": lambda: [
            head(HLS),
            f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\na.ts\n'.encode(),
        ],
        "/to-redirect": lambda: [head(HLS), b"#EXTM3U\n#EXTINF:1,\n/redirect\n"],
        "/nested": lambda: [head(HLS), b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/segment\n"],
    }
    with answering(lambda request: lists[request.path]()) as server:
        for path in lists:
            error = why(f"{server.url}{path}")
            assert error.reason == "open_failed"


@pytest.mark.parametrize(
    "answer",
    [
        head("text/html", "WWW-Authenticate: Digest realm=, nonce=x", status="401 No"),
        head("text/html", "WWW-Authenticate: Digest", status="401 No"),
        head("text/html", "Location: http://127.0.0.1:99999999/", status="302 Found"),
        head("video/mp4", f"Content-Length: {'9' * 4500}"),
        head("video/mp4", "Content-Length: -1"),
    ],
)
def test_nonsense_in_a_head_is_no_fault_of_ours(answer: bytes) -> None:
    with answering(lambda _: [answer]) as server:
        why(f"{server.url.replace('://', '://viewer:hunter2@')}/live")


def test_where_it_may_lead_can_be_allowed(jpeg: bytes) -> None:
    with answering(lambda _: [head(MULTIPART), PART, b"\r\n", jpeg]) as there:
        moved = [head("text/html", f"Location: {there.url}/live", status="302 Found")]
        with answering(lambda _: moved) as here:
            place = there.url.removeprefix("http://")
            error = why(f"{here.url}/live", 20.0)
            assert str(error) == f"leads to {place}: if that is meant, add it to follow_hosts"
            assert there.requests == []
            assert len(read(f"{here.url}/live", 20.0, place)) == 1


def test_a_password_goes_to_no_other_host(jpeg: bytes) -> None:
    asks = [head("text/html", 'WWW-Authenticate: Basic realm="x"', status="401 No")]
    with answering(lambda _: asks) as there:
        moved = [head("text/html", f"Location: {there.url}/live", status="302 Found")]
        with answering(lambda _: moved) as here:
            url = here.url.replace("://", "://viewer:hunter2@")
            error = why(f"{url}/live", 20.0, there.url.removeprefix("http://"))
        assert error.reason == "unauthorized"
        assert all("authorization" not in request.headers for request in there.requests)


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=video 9 RTP/AVP 96\r\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        b'mediaPresentationDuration="PT10S"></MPD>' + b" " * 2000,
    ],
    ids=["concat", "sdp", "dash"],
)
def test_what_would_have_ffmpeg_open_something_else_is_not_read(content: bytes) -> None:
    with answering(lambda _: [head("text/plain"), content]) as server:
        assert why(f"{server.url}/live").reason == "open_failed"
        assert len(server.requests) == 1

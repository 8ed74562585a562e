"""Video files behind http(s)://: read once, whole, whatever the connection does."""

import itertools
import threading
from contextlib import closing
from pathlib import Path

import pytest

from centernetd.capture.open import open_stream
from centernetd.config import load
from centernetd.errors import SourceError
from centernetd.flow import StreamState
from tests import clips
from tests.capture_rig import Rig, stream
from tests.http_servers import Request, answering, head, ranged

FRAMES = 60
WANTED = [number % 25 for number in range(FRAMES)]  # the pictures count up to there


@pytest.fixture(params=["mp4", "mp4 with its index first", "ts", "mkv"])
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    suffix, _, index_first = str(request.param).partition(" ")
    options = {"movflags": "faststart"} if index_first else {}
    return clips.count(tmp_path / f"a.{suffix}", FRAMES, muxing=options).read_bytes()


def numbers(url: str, timeout: float = 10.0) -> list[int]:
    with closing(open_stream(stream(url, timeout, policy="lossless"))) as source:
        return [clips.number_of(picture.image.pixels()) for picture in source]


def test_a_file_is_read_to_its_end(clip: bytes) -> None:
    with answering(lambda request: ranged(request, clip)) as server:
        assert numbers(f"{server.url}/a.mp4") == WANTED


@pytest.mark.parametrize("most", [1_000, 4_000])
def test_a_connection_that_is_lost_is_resumed_where_it_was(clip: bytes, most: int) -> None:
    with answering(lambda request: ranged(request, clip, most=most)) as server:
        assert numbers(f"{server.url}/a.mp4") == WANTED
        assert len(server.requests) > len(clip) // most
        assert server.sent < 2 * len(clip) + 500 * len(server.requests)


def test_a_server_that_is_away_for_a_moment_is_waited_for(clip: bytes) -> None:
    away = iter([b"", b"HTTP/1.1 503 Busy\r\n\r\n"])

    def answer(request: Request) -> list[bytes]:
        missing = next(away, None) if request.start else None
        return ranged(request, clip, most=3_000) if missing is None else [missing]

    with answering(answer) as server:
        assert numbers(f"{server.url}/a.mp4") == WANTED


def test_a_server_that_stays_away_ends_the_file(tmp_path: Path) -> None:
    clip = clips.count(tmp_path / "a.ts", FRAMES).read_bytes()

    def answer(request: Request) -> list[bytes]:
        return [b""] if request.start else ranged(request, clip, most=len(clip) // 2)

    with answering(answer) as server, pytest.raises(SourceError, match="can't be opened"):
        numbers(f"{server.url}/a.ts", 1.0)


def test_a_file_whose_beginning_is_lost_is_not_reported_as_without_video(tmp_path: Path) -> None:
    """Nobody can resume what has no size."""
    clip = clips.count(tmp_path / "a.mp4", FRAMES).read_bytes()
    blocks = (clip[at : at + 500] for at in range(0, len(clip) // 2, 500))
    chunked = [b"%x\r\n%b\r\n" % (len(block), block) for block in blocks]
    begin = head("video/mp4", "Transfer-Encoding: chunked")
    with (
        answering(lambda _: [begin, *chunked]) as server,
        pytest.raises(SourceError, match="the connection was lost"),
    ):
        numbers(f"{server.url}/a.mp4")


def test_a_file_that_changes_while_it_is_read_is_not_patched_together(tmp_path: Path) -> None:
    clip = clips.count(tmp_path / "a.ts", FRAMES).read_bytes()

    def answer(request: Request) -> list[bytes]:
        return ranged(request, clip, f"ETag: {bool(request.start)}", most=len(clip) // 2)

    with answering(answer) as server, pytest.raises(SourceError, match="was changed"):
        numbers(f"{server.url}/a.ts")


def test_a_server_that_sends_no_parts_is_read_from_the_beginning_again(clip: bytes) -> None:
    whole = head("video/mp4", f"Content-Length: {len(clip)}")
    sizes = itertools.chain([len(clip) // 2], itertools.repeat(len(clip)))
    with answering(lambda _: [whole, clip[: next(sizes)]]) as server:
        assert numbers(f"{server.url}/a.mp4") == WANTED


def test_a_redirected_file_is_resumed(clip: bytes) -> None:
    def answer(request: Request) -> list[bytes]:
        if request.path == "/a.mp4":
            return [head("text/html", "Location: /b", status="302 Found")]
        return ranged(request, clip, most=2_000)

    with answering(answer) as server:
        assert numbers(f"{server.url}/a.mp4") == WANTED


def test_its_stream_ends_with_it(clip: bytes) -> None:
    with answering(lambda request: ranged(request, clip)) as server:
        rig = Rig(f"{server.url}/a.mp4", policy="lossless")
        rig.stage._opener = open_stream
        reading = threading.Thread(target=rig.run, daemon=True)
        reading.start()
        reading.join(60)
        assert not reading.is_alive()
    assert rig.status is StreamState.ENDED
    assert not rig.lane.status.failed
    assert len(rig.take()) == FRAMES


@pytest.mark.parametrize(
    ("source", "policy", "decided", "is_file"),
    [
        ("http://h/a.mp4", "auto", "lossless", True),
        ("https://h/a.MKV?token=x", "auto", "lossless", True),
        ("https://h/a%2Emov", "auto", "lossless", True),
        ("http://h/a.mp4", "live", "live", False),
        ("http://h/video", "auto", "live", False),
        ("http://h/video?file=a.mp4", "auto", "live", False),
        ("http://h.mp4/", "auto", "live", False),
        ("http://h/live.m3u8", "auto", "live", False),
        ("http://h/cam.mjpg", "auto", "live", False),
        ("http://h/shot.jpg", "auto", "live", False),
        ("http://h/video", "lossless", "lossless", True),
        ("rtsp://h/a.mp4", "auto", "live", False),
        ("rtsp://h/a", "lossless", "lossless", False),
        ("a.mp4", "live", "live", True),
    ],
)
def test_what_is_a_file_and_what_is_live(
    source: str, policy: str, decided: str, is_file: bool, tmp_path: Path
) -> None:
    text = f"version: 1\nstreams: {{cam: {{source: '{source}', policy: {policy}}}}}\n"
    (tmp_path / "config.yaml").write_text(text)
    loaded = load(tmp_path / "config.yaml").streams["cam"]
    assert (loaded.policy, loaded.from_file) == (decided, is_file)
    assert (loaded.record.segment is None) is is_file

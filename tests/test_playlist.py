"""HLS: playlists that slide on while they are read, as those of cameras and servers do."""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from centernetd.capture.open import open_stream
from centernetd.errors import SourceError
from centernetd.flow import Frame, Result
from tests import clips, http_servers
from tests.capture_rig import Rig, stream
from tests.fakes import WAIT_TIMEOUT, detections, wait_until
from tests.http_servers import Answer, Request, answering, head, ranged
from tests.playlists import LIVE, RATE, Sliding, segments

WANTED = 85  # pictures, of which 75 come together
EARLY = 0.1  # seconds that a clock may be off


def test_a_lossless_stream_keeps_the_pace_of_a_sliding_playlist(tmp_path: Path) -> None:
    seen: list[tuple[Frame, int]] = []
    with http_servers.serving(Sliding(segments(tmp_path, seconds=20))) as url:
        rig = Rig(f"{url}{LIVE}", policy="lossless", depth=8)
        rig.stage._opener = open_stream
        reading = threading.Thread(target=rig.run, daemon=True)
        reading.start()

        def enough() -> bool:
            seen.extend(taken(rig))
            return len(seen) >= WANTED

        wait_until(enough)
        rig.stop.set()
        rig.lane.close()
        reading.join(WAIT_TIMEOUT)
        assert not reading.is_alive()
    assert {(b - a) % 25 for (_, a), (_, b) in pairwise(seen)} == {1}
    assert {b.pts - a.pts for (a, _), (b, _) in pairwise(seen)} == {90_000 // RATE}
    first, last = seen[0][0], seen[-1][0]
    assert last.captured_at - first.captured_at > last.time - first.time - EARLY


def taken(rig: Rig) -> Iterator[tuple[Frame, int]]:
    """Infer on what waits; yields each frame, and the number in its picture."""
    while (frame := rig.lane.take()) is not None:
        rig.lane.deliver(Result(frame, detections()))
        yield frame, clips.number_of(frame.image.pixels())


LIST = "application/vnd.apple.mpegurl"
TARGET = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"


def numbers(url: str, *, once: bool = True) -> list[int]:
    with closing(open_stream(stream(url, 20.0, policy="lossless" if once else "live"))) as source:
        assert source.info.in_bursts
        return [clips.number_of(picture.image.pixels()) for picture in source]


def served(pages: Mapping[str, str | bytes]) -> Answer:
    """Answer with ``pages``, in parts where that is asked for."""

    def answer(request: Request) -> Iterable[bytes]:
        page = pages[request.path]
        if isinstance(page, str):
            return [head(LIST), page.encode()]
        return [head("video/mp4"), page] if request.start is None else ranged(request, page)

    return answer


def listed(*segments: Path, first: int = 0, last: str = "#EXT-X-ENDLIST\n") -> str:
    lines = "".join(f"#EXTINF:1,\n{segment.name}\n" for segment in segments)
    return f"{TARGET}#EXT-X-MEDIA-SEQUENCE:{first}\n{lines}{last}"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return segments(tmp_path_factory.mktemp("hls"), seconds=3)


EVERY = list(range(RATE)) * 3  # the pictures count to 25


def test_a_complete_playlist_is_read_from_its_beginning_to_its_end(parts: list[Path]) -> None:
    pages = {f"/a/{part.name}": part.read_bytes() for part in parts}
    with answering(served({"/a/list.m3u8": listed(*parts), **pages})) as server:
        assert numbers(f"{server.url}/a/list.m3u8") == EVERY
        assert len(server.requests) == 4


def test_segments_that_are_lost_on_the_way_are_resumed(parts: list[Path]) -> None:
    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/list.m3u8":
            return [head(LIST), listed(*parts).encode()]
        content = (parts[0].parent / request.path[1:]).read_bytes()
        return ranged(request, content, most=2000)

    with answering(answer) as server:
        assert numbers(f"{server.url}/list.m3u8") == EVERY


def test_segments_may_be_ranges_of_one_file(parts: list[Path]) -> None:
    contents = [part.read_bytes() for part in parts]
    first, second, third = map(len, contents)
    text = (
        f"{TARGET}#EXTINF:1,\n#EXT-X-BYTERANGE:{first}@0\nall.ts\n"
        f"#EXTINF:1,\n#EXT-X-BYTERANGE:{second}\nall.ts\n"
        f"#EXTINF:1,\n#EXT-X-BYTERANGE:{third}@{first + second}\nall.ts\n#EXT-X-ENDLIST\n"
    )
    with answering(served({"/list.m3u8": text, "/all.ts": b"".join(contents)})) as server:
        assert numbers(f"{server.url}/list.m3u8") == EVERY


def test_segments_may_be_fragments_of_mp4(tmp_path: Path) -> None:
    muxing = {"movflags": "empty_moov+frag_keyframe+default_base_moof"}
    whole = clips.count(tmp_path / "a.mp4", 75, muxing=muxing, encoding={"g": "25"}).read_bytes()
    cuts = [found.start() - 4 for found in re.finditer(b"moof", whole)]
    start, *fragments = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    text = f'{TARGET}#EXT-X-MAP:URI="init.mp4"\n'
    text += "".join(f"#EXTINF:1,\n{n}.m4s\n" for n in range(len(fragments))) + "#EXT-X-ENDLIST\n"
    pages = {f"/{n}.m4s": fragment for n, fragment in enumerate(fragments)}
    with answering(served({"/list.m3u8": text, "/init.mp4": start, **pages})) as server:
        assert numbers(f"{server.url}/list.m3u8") == EVERY
        assert server.paths.count("/init.mp4") == 1


def test_the_best_variant_is_read_and_no_other(parts: list[Path]) -> None:
    text = (
        "\ufeff#EXTM3U\r\n# by hand\r\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=32x24\r\nsmall.m3u8\r\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=500,CODECS="avc1,mp4a",RESOLUTION=64x48\r\nsub/best.m3u8\r\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=100,RESOLUTION=64x48\r\nworse.m3u8\r\n"
    )
    pages = {f"/sub/{part.name}": part.read_bytes() for part in parts}
    with answering(served({"/a.m3u8": text, "/sub/best.m3u8": listed(*parts), **pages})) as server:
        assert numbers(f"{server.url}/a.m3u8") == EVERY
        assert server.paths[1] == "/sub/best.m3u8"


def test_segments_are_relative_to_where_the_playlist_was_found(parts: list[Path]) -> None:
    pages = {f"/b/{part.name}": part.read_bytes() for part in parts}
    answer = served({"/b/list.m3u8": listed(*parts), **pages})
    moved = head("text/html", "Location: /b/list.m3u8", status="302 Found")
    with answering(lambda asked: [moved] if asked.path == "/a.m3u8" else answer(asked)) as server:
        assert numbers(f"{server.url}/a.m3u8") == EVERY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{TARGET}#EXT-X-ENDLIST\n", "lists no segments"),
        (f"{TARGET}#EXT-X-MEDIA-SEQUENCE:x\n", "is damaged"),
        (f"{TARGET}#EXT-X-BYTERANGE:-1@x\n", "is damaged"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", "lists no segments"),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\na.ts\n', "is encrypted"),
    ],
)
def test_what_is_wrong_with_a_playlist_is_reported(text: str, why: str) -> None:
    with answering(served({"/a.m3u8": text})) as server, pytest.raises(SourceError, match=why):
        numbers(f"{server.url}/a.m3u8")


def test_a_playlist_that_begins_again_is_opened_anew(parts: list[Path]) -> None:
    texts = iter([listed(*parts, first=500, last=""), listed(*parts, first=0, last="")])
    pages = {f"/{part.name}": part.read_bytes() for part in parts}

    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/a.m3u8":
            return [head(LIST), next(texts).encode()]
        return served(pages)(request)

    with answering(answer) as server, pytest.raises(SourceError, match="restarted") as caught:
        numbers(f"{server.url}/a.m3u8", once=False)
    assert caught.value.reason == "ended"


@pytest.mark.parametrize("never_ends", [False, True])
def test_a_complete_playlist_is_read_once(parts: list[Path], never_ends: bool) -> None:
    """Where `policy: live` is asked for its stream goes on, and shows nothing again."""
    pages = {f"/{part.name}": part.read_bytes() for part in parts}
    with answering(served({"/a.m3u8": listed(*parts), **pages})) as server:
        rig = Rig(f"{server.url}/a.m3u8", policy="live")
        rig.stage._stream = replace(rig.stage._stream, never_ends=never_ends)
        rig.stage._opener = open_stream
        reading = threading.Thread(target=rig.run, daemon=True)
        reading.start()
        if never_ends:
            wait_until(lambda: rig.lane.status.reconnects["ended"] >= 3)
            rig.stop.set()
        reading.join(WAIT_TIMEOUT)
        assert not reading.is_alive()
        assert server.paths.count(f"/{parts[-1].name}") == 1
    assert rig.lane.ledger.read().captured == len(EVERY)


def test_a_live_playlist_that_gets_its_end_is_asked_for_again(parts: list[Path]) -> None:
    ends = iter(["", "#EXT-X-ENDLIST\n", "#EXT-X-ENDLIST\n"])
    pages = {f"/{part.name}": part.read_bytes() for part in parts}

    def answer(request: Request) -> Iterable[bytes]:
        if request.path == "/a.m3u8":
            return [head(LIST), listed(*parts, last=next(ends, "")).encode()]
        return served(pages)(request)

    with answering(answer) as server:
        rig = Rig(f"{server.url}/a.m3u8", policy="live")
        rig.stage._opener = open_stream
        reading = threading.Thread(target=rig.run, daemon=True)
        reading.start()
        wait_until(lambda: rig.lane.ledger.read().captured > len(EVERY))
        rig.stop.set()
        reading.join(WAIT_TIMEOUT)
        assert not reading.is_alive()
    assert rig.lane.status.reconnects["ended"] == 2

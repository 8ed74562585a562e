"""HLS: playlists that slide on while they are read, as those of cameras and servers do."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import pytest
from av.video.stream import VideoStream

from daemon.capture.open import open_source
from daemon.flow import Frame, Result
from tests import clips, web
from tests.capturing import House
from tests.fakes import PATIENCE, detections, wait_until

RATE = 25
SEGMENT = 1.0  # seconds
WINDOW = 5  # segments that a playlist lists; FFmpeg begins with the last three, as fast as it can
WANTED = 85  # pictures, of which 75 come at once

EARLY = 0.1  # seconds that a clock may be off


class Sliding(dict[str, Path | bytes | int]):
    """The pages of a server whose playlist goes on by a segment as each ends."""

    def __init__(self, segments: list[Path]) -> None:
        super().__init__({f"/{path.name}": path for path in segments})
        self._names = [path.name for path in segments]
        self._began = time.monotonic()

    def get(self, path: str, default: object = None) -> object:  # type: ignore[override]
        if path != "/live.m3u8":
            return super().get(path, 404)
        passed = int((time.monotonic() - self._began) / SEGMENT)
        listed = self._names[passed : passed + WINDOW]
        head = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{passed}\n"
        return (head + "".join(f"#EXTINF:{SEGMENT},\n{name}\n" for name in listed)).encode()


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hls")
    options = {"hls_time": str(SEGMENT), "hls_segment_filename": f"{folder}/%03d.ts"}
    with av.open(str(folder / "all.m3u8"), "w", format="hls", options=options) as output:
        stream = output.add_stream("libx264", rate=RATE, options={"g": str(RATE), "bf": "0"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(RATE * 20):
            frame = av.VideoFrame.from_ndarray(clips.numbered(number, (48, 64)), format="bgr24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return sorted(folder.glob("*.ts"))


def test_a_lossless_stream_keeps_the_pace_of_a_sliding_playlist(segments: list[Path]) -> None:
    seen: list[tuple[Frame, int]] = []
    with web.serving(Sliding(segments)) as url:
        house = House(f"{url}/live.m3u8", policy="lossless", depth=8)
        house.stage._opener = open_source
        reading = threading.Thread(target=house.run, daemon=True)
        reading.start()

        def enough() -> bool:
            seen.extend(taken(house))
            return len(seen) >= WANTED

        wait_until(enough)
        house.stop.set()
        house.lane.close()
        reading.join(PATIENCE)
        assert not reading.is_alive()
    assert {(b - a) % 25 for (_, a), (_, b) in pairwise(seen)} == {1}
    assert {b.pts - a.pts for (a, _), (b, _) in pairwise(seen)} == {90_000 // RATE}
    first, last = seen[0][0], seen[-1][0]
    assert last.captured_at - first.captured_at > last.time - first.time - EARLY


def taken(house: House) -> Iterator[tuple[Frame, int]]:
    """Infer on what waits; yields each frame, and the number in its picture."""
    while (frame := house.lane.take()) is not None:
        house.lane.deliver(Result(frame, detections()))
        yield frame, clips.number_of(frame.image)

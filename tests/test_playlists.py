"""HLS: playlists that slide on while they are read, as those of cameras and servers do."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from daemon.capture.open import open_source
from daemon.flow import Frame, Result
from tests import clips, web
from tests.capturing import House
from tests.fakes import PATIENCE, detections, wait_until
from tests.playlists import LIVE, RATE, Sliding, segments

WANTED = 85  # pictures, of which 75 come at once
EARLY = 0.1  # seconds that a clock may be off


def test_a_lossless_stream_keeps_the_pace_of_a_sliding_playlist(tmp_path: Path) -> None:
    seen: list[tuple[Frame, int]] = []
    with web.serving(Sliding(segments(tmp_path, seconds=20))) as url:
        house = House(f"{url}{LIVE}", policy="lossless", depth=8)
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

"""HLS as servers have it: segments, and a playlist that slides on with time."""

import time
from pathlib import Path

import av
from av.video.stream import VideoStream

from tests import clips

LIVE = "/live.m3u8"
RATE = 25
SEGMENT = 1.0  # seconds
WINDOW = 5  # segments that a playlist lists; FFmpeg begins with the last three, as fast as it can


def segments(folder: Path, seconds: int) -> list[Path]:
    """Write a video whose pictures are numbered, in segments."""
    options = {"hls_time": str(SEGMENT), "hls_segment_filename": f"{folder}/%03d.ts"}
    with av.open(str(folder / "all.m3u8"), "w", format="hls", options=options) as output:
        stream = output.add_stream("libx264", rate=RATE, options={"g": str(RATE), "bf": "0"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(RATE * seconds):
            frame = av.VideoFrame.from_ndarray(clips.numbered(number, (48, 64)), format="bgr24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return sorted(folder.glob("*.ts"))


class Sliding(dict[str, Path | bytes | int]):
    """The pages of a server whose playlist goes on by a segment as each ends."""

    def __init__(self, segments: list[Path]) -> None:
        super().__init__({f"/{path.name}": path for path in segments})
        self._names = [path.name for path in segments]
        self._began = time.monotonic()

    def get(self, path: str, default: object = None) -> object:  # type: ignore[override]
        if path != LIVE:
            return super().get(path, 404)
        passed = int((time.monotonic() - self._began) / SEGMENT)
        listed = self._names[passed : passed + WINDOW]
        head = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{passed}\n"
        return (head + "".join(f"#EXTINF:{SEGMENT},\n{name}\n" for name in listed)).encode()

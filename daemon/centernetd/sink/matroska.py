"""Converting complete MP4 recordings, which survive being cut off, to Matroska."""

from pathlib import Path

import av

from centernetd.errors import SinkError
from centernetd.sink.file import part_of, reason, unused


def to_matroska(recording: Path) -> Path:
    """Copy the packets of a complete ``recording`` to a Matroska file that replaces it.

    Return its path, which ends in .mkv and did not exist before.

    Raises
    ------
    SinkError
        When it can't be written; the recording is kept.
    """
    path = unused(recording.with_suffix(".mkv"))
    part = part_of(path)
    try:
        with av.open(recording) as source, av.open(part, "w", format="matroska") as target:
            (video,) = source.streams.video
            stream = target.add_stream_from_template(video)
            for packet in source.demux(video):
                if packet.dts is not None:  # the last packet only marks the end
                    packet.stream = stream
                    target.mux(packet)
        part.rename(path)
        recording.unlink()
    except (av.FFmpegError, OSError) as error:
        part.unlink(missing_ok=True)
        why = reason(error.errno, error.strerror)
        raise SinkError(f"{path} can't be written: {why}; {recording} is complete") from error
    return path

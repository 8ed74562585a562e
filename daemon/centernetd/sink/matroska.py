"""Recordings as Matroska files: made from complete MP4 files, which survive being cut off."""

from pathlib import Path

import av

from centernetd.errors import SinkError
from centernetd.sink.file import part_of, reason, unused


def to_matroska(recording: Path) -> Path:
    """Put the packets of a complete ``recording`` into a Matroska file that takes its place.

    Returns its path, which has the suffix .mkv and is not that of a file that was there.

    Raises
    ------
    SinkError
        When it can't be written; the recording stays.
    """
    path = unused(recording.with_suffix(".mkv"))
    part = part_of(path)
    try:
        with av.open(recording) as source, av.open(part, "w", format="matroska") as target:
            (video,) = source.streams.video
            stream = target.add_stream_from_template(video)
            for packet in source.demux(video):
                if packet.dts is not None:  # the last one only tells the end
                    packet.stream = stream
                    target.mux(packet)
        part.rename(path)
        recording.unlink()
    except (av.FFmpegError, OSError) as error:
        part.unlink(missing_ok=True)
        why = reason(error.errno, error.strerror)
        raise SinkError(f"{path} can't be written: {why}; {recording} is complete") from error
    return path

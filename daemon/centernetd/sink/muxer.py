"""Muxing packets: fragmented MP4, which survives being cut off, and Matroska made from it."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from centernetd.errors import SinkError
from centernetd.flow import UPRIGHT, Coding, Packet
from centernetd.sink.file import OutputFile, part_of, reason, unused

_FRAGMENT = 250_000  # microseconds
_TICKS = 1000  # ticks per second of movie time in FFmpeg's muxer
CODECS = ("h264", "hevc")


def require_copyable(codec: str) -> None:
    """Raise a `SinkError` if MP4 can't hold packets of ``codec``, as FFmpeg names it."""
    if codec not in CODECS:
        raise SinkError(
            f"{codec or 'this'} video can't be copied into MP4 (H.264 and H.265 can): "
            "set record.video: annotated"
        )


class FragmentedMp4:
    """One MP4 file being written, as ``<path>.part`` until it is complete.

    The muxer holds packets until their fragment is full. It writes the whole fragment when it
    receives the packet that begins the next one. So when the file has grown, it contains
    exactly the packets before the present one. ``safe`` and ``last`` are the numbers
    of the last packet in the file and of the last one written, 0 for none; ``first`` is the first.
    """

    def __init__(self, path: Path, first: Packet, mark: str = "") -> None:
        """Create the file for ``first`` (which is not written yet) and the packets after it.

        If the name exists, another is chosen. The file stores the Unix time of ``first``, to the
        second, as its creation time, and ``mark`` as a comment.

        Raises
        ------
        SinkError
            When the file can't be created or MP4 can't hold the codec.
        """
        require_copyable(first.coding.codec)
        self._wanted = path
        self.path, self._file = _create(path)
        self._named = False
        self.safe = self.last = 0
        self.first = first
        self._end = first.pts
        self._hides = False
        try:
            self._container = av.open(self._file, "w", format="mp4", options=_options(first))
            began_at = datetime.fromtimestamp(first.wall_time, timezone.utc)
            self._container.metadata["creation_time"] = began_at.strftime("%Y-%m-%dT%H:%M:%SZ")
            self._container.metadata["comment"] = mark
            self._stream = _add_stream(self._container, first.coding)
            self._stream.time_base = first.time_base
        except BaseException:
            self._file.abandon()
            self._file.path.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.size

    @property
    def part(self) -> Path:
        """Its path until the file is complete."""
        return self._file.path

    def write(self, packet: Packet) -> None:
        """Write a packet; ``safe`` shows which packets the file contains afterwards.

        The file's time starts at the first packet's ``pts``.

        Raises
        ------
        SinkError
            When the file can't be written; only `abandon` may be called then.
        """
        size = self._file.size
        with _as_sink_error(self._file.path):
            self._container.mux(self._muxable(packet))
            if self._file.size > size:
                self._complete_header()
                self.safe = self.last
                self._file.mark_whole()
        self.last = packet.number
        if self._file.sync():
            self._refuse_if_changed()

    def close(self) -> None:
        """Complete and rename the file, which then contains every packet.

        Raises
        ------
        SinkError
            When that fails; only `abandon` may be called then.
        """
        with _as_sink_error(self._file.path):
            self._container.close()
            self._refuse_if_changed()
            self._complete_header()
            if self._hides:
                # FFmpeg's muxer leaves the end of the edit open; its demuxer treats that as empty.
                lasts = (self._end - self.first.pts) * self.first.time_base
                self._amend(b"elst", 12, lasts * _TICKS)
            self._file.close()
            self.safe = self.last
            self._rename()

    def abandon(self) -> bool:
        """Close the file after a failure, truncated to its last whole fragment.

        Return whether it is stored under its final name; a file without a frame is removed. Never
        raises. If the disk does not allow that, the file is left as ``part``.
        """
        cut = self._file.abandon()
        with suppress(Exception):
            self._container.close()
        with suppress(OSError):
            if cut and not self.safe:
                self._file.path.unlink()
            elif cut and not self._named:
                self._rename()
        return self._named

    def _refuse_if_changed(self) -> None:
        if not self._file.is_intact:
            raise SinkError(f"{self.part} was deleted, moved or cut by others")

    def _muxable(self, packet: Packet) -> "av.Packet[Stream]":
        origin = self.first.pts
        before = packet.hidden and packet.dts < origin
        if packet.hidden:
            self._hides = True
        else:
            self._end = max(self._end, packet.pts + packet.duration)
        muxable = av.Packet(packet.data)
        muxable.pts = (packet.dts if before else packet.pts) - origin
        muxable.dts = packet.dts - origin
        muxable.duration = packet.duration
        muxable.time_base = packet.time_base
        muxable.is_keyframe = packet.is_keyframe
        muxable.stream = self._stream
        return muxable

    def _complete_header(self) -> None:
        """Write the display width to the header, which PyAV does not pass to the muxer."""
        coding = self.first.coding
        if self.last and not self.safe and coding.aspect != 1:
            self._amend(b"tkhd", 80, coding.width * coding.aspect * (1 << 16))

    def _amend(self, box: bytes, at: int, number: Fraction) -> None:
        """Write a 32-bit number at byte ``at`` of a box of the header: ISO/IEC 14496-12, 8."""
        self._file.amend(box, at, min(math.ceil(number), 0xFFFFFFFF).to_bytes(4, "big"))

    def _rename(self) -> None:
        taken = os.path.lexists(self.path)  # created by others meanwhile
        path = unused(self._wanted) if taken else self.path
        self._file.path.rename(path)
        self.path = path
        self._named = True


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


def _options(first: Packet) -> dict[str, str]:
    """Return the muxer's options for a file that begins with ``first``.

    The header is delayed until the first key frame, which has the parameter sets. Hidden
    packets get an edit list in one piece: FFmpeg's demuxer ignores the start of any other edit.
    """
    if not first.hidden:
        movflags, fragment, edit = "+empty_moov+delay_moov", _FRAGMENT, {}
    else:
        hidden = (first.pts - first.dts) * first.time_base
        movflags, fragment = "", _FRAGMENT + math.ceil(hidden * 1_000_000)
        edit = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
    return {
        "movflags": f"frag_keyframe+default_base_moof{movflags}",
        "frag_duration": str(fragment),
        "flush_packets": "1",
        **edit,
    }


def _add_stream(container: OutputContainer, coding: Coding) -> VideoStream:
    """Add a stream whose header describes packets of ``coding``.

    Without an encoder, PyAV does not write that description, and it would open an encoder,
    except for a stream copied from a template. The template's container is never written.
    """
    with av.open(BytesIO(), "w", format="mp4") as unwritten:
        model = unwritten.add_stream(coding.codec)
        stream = cast(VideoStream, container.add_stream_from_template(model, opaque=True))
    stream.width, stream.height = coding.width, coding.height
    stream.sample_aspect_ratio = coding.aspect
    stream.color_range, stream.colorspace, stream.color_primaries, stream.color_trc = coding.colours
    if coding.codec == "hevc":
        stream.codec_tag = "hvc1"  # Apple requires parameter sets only in the header
    if coding.orientation != UPRIGHT:
        a, b, c, d = (number << 16 for number in coding.orientation)
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
    return stream


def _create(wanted: Path) -> tuple[Path, OutputFile]:
    """Return the first free name, and the file created for it."""
    while True:
        path = unused(wanted)
        try:
            return path, OutputFile(part_of(path), "x")
        except SinkError as error:
            if not isinstance(error.__cause__, FileExistsError):  # another process was faster
                raise


@contextmanager
def _as_sink_error(path: Path) -> Iterator[None]:
    """Convert errors of the muxer or the system to a SinkError that names ``path``."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        why = reason(error.errno, error.strerror)
        raise SinkError(f"{path} can't be written: {why}") from error

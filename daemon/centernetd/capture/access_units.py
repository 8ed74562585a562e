"""Picture boundaries in H.264 and H.265, and reassembly of pictures split into pieces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from av.packet import Packet
from av.video.stream import VideoStream

_START_CODE = b"\x00\x00\x01"
_HEAD = 64  # bytes of a unit that are inspected
_MAX_PARTS = 600  # slices per picture: ITU-T H.265, table A.8


@dataclass(frozen=True)
class _Syntax:
    """NAL unit types of a codec; its unit headers have ``header`` bytes."""

    kind: Callable[[int], int]
    header: int
    slices: Sequence[int]


# ITU-T H.264, 7.3.1 and table 7-1; H.265, 7.3.1.2 and table 7-1.
_SYNTAX: Mapping[str, _Syntax] = {
    "h264": _Syntax(lambda head: head & 0x1F, 1, (1, 2, 5)),
    "hevc": _Syntax(lambda head: head >> 1 & 0x3F, 2, range(32)),
}


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the position of each start code and the beginning of the NAL unit after it."""
    at = data.find(_START_CODE)
    while at >= 0:
        yield at, data[at + 3 : at + 3 + _HEAD]
        at = data.find(_START_CODE, at + 3)


def begins_picture(data: bytes, codec: str) -> bool:
    """Return whether the first slice in ``data`` starts a picture; True without any slice."""
    return next((begins for _, begins in _slices(data, codec) if begins is not None), True)


def end_of_picture(data: bytes, codec: str) -> int:
    """Return where the first picture in ``data`` ends; another may follow."""
    end: int | None = None  # of the last slice
    seen = False
    for at, begins in _slices(data, codec):
        if seen and end is None:
            end = at
        if begins and end is not None:
            return end
        if begins is not None:
            seen, end = True, None
    return len(data)


def _slices(data: bytes, codec: str) -> Iterator[tuple[int, bool | None]]:
    """Yield each NAL unit's position and whether it begins a picture; None if not a slice.

    A picture begins where ``first_mb_in_slice`` is 0 or ``first_slice_segment_in_pic_flag`` is
    set. Both show as a set first bit in the slice header.
    """
    syntax = _SYNTAX[codec]
    for at, unit in _units(data):
        is_slice = len(unit) > syntax.header and syntax.kind(unit[0]) in syntax.slices
        yield at, unit[syntax.header] >= 0x80 if is_slice else None


class WholePictures:
    """Reassembles pictures that FFmpeg split.

    FFmpeg's parsers treat a parameter set as the start of a picture. If each slice of a key
    frame is preceded by its own sets, as GStreamer's payloader sends them, the parsers return
    each slice as a picture. Only the next packet shows whether a picture is complete, so the
    first key frame of a live stream is held until it arrives; after a split was found,
    every picture is held. In a file, where latency does not matter, all are held.
    """

    def __init__(self, stream: VideoStream, *, live: bool) -> None:
        """Reassemble the packets of ``stream``."""
        context = stream.codec_context
        self._codec = context.codec.canonical_name
        # Packets whose NAL units have length prefixes (their extradata begins with version 1) come
        # from containers that keep pictures whole.
        has_lengths = (context.extradata or b"")[:1] == b"\x01"
        self._may_be_cut = self._codec in _SYNTAX and not has_lengths
        # In a live stream, unknown until a key frame and the packet after it were seen.
        self._holds: bool | None = None if live else True
        self._held: list[Packet[VideoStream]] = []
        self._pts: int | None = None

    def add(self, packet: "Packet[VideoStream]") -> Sequence["Packet[VideoStream]"]:
        """Return the packets completed by this one; the last, an empty packet, completes all."""
        if not self._may_be_cut:
            return [packet]
        if self._continues(packet):
            self._holds = True
            if self._held:
                more, following = self._split(packet)
                self._held.append(more)
                if following is None:
                    return []
                packet = following
        complete = [_joined(self._held)] if self._held else []
        self._held, self._pts = [], packet.pts
        if complete and self._holds is None:
            self._holds = False
        if packet.size and (packet.is_keyframe if self._holds is None else self._holds):
            self._held = [packet]
            return complete
        return [*complete, packet]

    def _continues(self, packet: "Packet[VideoStream]") -> bool:
        """Return whether ``packet`` continues the previous picture, whose start may be lost."""
        if not packet.size or len(self._held) == _MAX_PARTS:
            return False
        same_time = None in (packet.pts, self._pts) or packet.pts == self._pts
        return same_time and not begins_picture(bytes(packet), self._codec)

    def _split(
        self, packet: "Packet[VideoStream]"
    ) -> tuple["Packet[VideoStream]", "Packet[VideoStream] | None"]:
        """Split ``packet`` where the next picture begins: the H.265 parser merges the two."""
        data = bytes(packet)
        end = end_of_picture(data, self._codec)
        if end == len(data):
            return packet, None
        more, following = _copied(packet, data[:end]), _copied(packet, data[end:])
        # Its time can only be derived from the frame rate; without one, the clock is used.
        apart = packet.duration
        following.pts = packet.pts + apart if apart and packet.pts is not None else None
        following.dts = packet.dts + apart if apart and packet.dts is not None else None
        return more, following


def _joined(parts: Sequence["Packet[VideoStream]"]) -> "Packet[VideoStream]":
    if len(parts) == 1:
        return parts[0]
    joined = _copied(parts[0], b"".join(map(bytes, parts)))
    joined.pts = next((part.pts for part in parts if part.pts is not None), None)
    joined.dts = next((part.dts for part in parts if part.dts is not None), None)
    return joined


def _copied(packet: "Packet[VideoStream]", data: bytes) -> "Packet[VideoStream]":
    """Return ``data`` as a packet with the metadata of ``packet``."""
    copy = cast("Packet[VideoStream]", Packet(data))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    return copy

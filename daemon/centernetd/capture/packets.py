"""A source's packets, kept as received and moved onto the timeline of its stream."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import av
from av.bitstream import BitStreamFilterContext
from av.packet import Packet as AvPacket
from av.video.stream import VideoStream

from centernetd.capture.source import Picture, SourcePacket
from centernetd.capture.timeline import MAX_REORDERED
from centernetd.errors import SourceError
from centernetd.flow import UPRIGHT, Coding, Orientation, Packet

# Bitstream filters that convert packets of MP4 and the like to NAL units with start codes.
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
# The types of NAL units that are parameter sets, and the position of the type in the first byte:
# ITU-T H.264, 7.4.1; H.265, 7.4.2.2.
_PARAMETER_SETS = {"h264": ((7, 8), 0, 0x1F), "hevc": ((32, 33, 34), 1, 0x3F)}
_START_CODE = b"\x00\x00\x01"
_MAX_HELD = 1024  # packets kept while none of them yields a picture
_FARTHEST = 10  # seconds a packet may be away from the picture it came with


class PacketCopier:
    """Keeps the packets of a stream until they are taken with the next picture.

    Every key frame gets its parameter sets; packets before the first key frame are dropped.
    Codecs other than H.264 and H.265 are kept without conversion or parameter sets.
    """

    def __init__(self, stream: VideoStream, *, timed: bool = True) -> None:
        """Keep packets of ``stream``; unless they are ``timed``, `show` supplies their pts.

        Raises
        ------
        SourceError
            When its codec configuration is damaged.
        """
        self._context = stream.codec_context
        self._codec = self._context.codec.canonical_name
        self._time_base = stream.time_base or Fraction(1, 90_000)
        self._filter = _filter_of(stream, self._codec)
        self._parameters = b""
        self._coding: Coding | None = None
        self._packets: list[SourcePacket] = []
        self._timed = timed
        self._delay = 0  # between decoding and showing, unless timed

    def add(self, packet: "AvPacket[VideoStream]") -> bool:
        """Keep a packet that has been decoded; its content is consumed.

        Return False if it is too damaged to be kept; packets are then dropped until a key frame.
        """
        if not packet.size:
            return True
        if len(self._packets) == _MAX_HELD:
            self._packets, self._coding = [], None
        try:
            converted = [packet] if self._filter is None else self._filter.filter(packet)
        except av.error.InvalidDataError:
            self._coding = None
            return False
        for whole in converted:
            data = bytes(whole)
            if whole.is_keyframe:
                data = self._with_parameters(data)
                self._coding = self._present_coding()
                while self._packets and self._packets[-1].hidden:  # no shown packet depends on it
                    self._packets.pop()
            if self._coding is not None:
                self._packets.append(self._copied(whole, data, self._coding, whole.is_discard))
        return True

    def take(
        self, orientation: Orientation = UPRIGHT, aspect: Fraction = Fraction(1)
    ) -> Sequence[SourcePacket]:
        """Return the packets kept up to the last shown one, and remove them.

        They get the orientation and pixel aspect of the picture they are taken with.
        """
        waits = (number for number, packet in enumerate(self._packets) if packet.pts is None)
        last = len(self._packets)
        if not self._timed:
            last = max(next(waits, last), last - MAX_REORDERED)
        while last and self._packets[last - 1].hidden:
            last -= 1
        taken, self._packets = self._packets[:last], self._packets[last:]
        for number, packet in enumerate(taken):
            coding = replace(packet.coding, orientation=orientation, aspect=aspect)
            dts = packet.dts if packet.dts is None else packet.dts - self._delay
            if (coding, dts) != (packet.coding, packet.dts):
                taken[number] = replace(packet, coding=coding, dts=dts)
        return taken

    def show(self, decoded: int, pts: int) -> None:
        """Record that the packet whose dts is ``decoded`` makes the picture shown at ``pts``."""
        if self._timed:
            return
        for number, packet in enumerate(self._packets):
            self._delay = max(self._delay, (packet.dts or 0) - pts)
            if packet.dts == decoded:
                self._packets[number] = replace(packet, pts=pts)

    def _present_coding(self) -> Coding:
        context = self._context
        return Coding(
            self._codec,
            context.width,
            context.height,
            self._parameters,
            colours=(
                context.color_range,
                context.colorspace,
                context.color_primaries,
                context.color_trc,
            ),
        )

    def _with_parameters(self, data: bytes) -> bytes:
        """Return a key frame with every parameter set, even if some were sent before, or lost."""
        if self._codec not in _PARAMETER_SETS:
            return data
        own = _parameter_sets(self._codec, data)
        sets = own
        if not all(own.values()):
            extradata = self._context.extradata or b""
            first = extradata if _has_start_codes(extradata) else b""
            known = _parameter_sets(self._codec, self._parameters)
            from_the_start = _parameter_sets(self._codec, first)
            sets = {kind: own[kind] or known[kind] or from_the_start[kind] for kind in own}
        self._parameters = b"".join(sets.values())
        return data if sets == own else self._parameters + data

    def _copied(
        self, packet: "AvPacket[VideoStream]", data: bytes, coding: Coding, hidden: bool
    ) -> SourcePacket:
        in_order = not self._context.has_b_frames
        return SourcePacket(
            data=data,
            pts=packet.pts if self._timed else None,
            dts=packet.pts if packet.dts is None and in_order else packet.dts,
            duration=packet.duration or 0,
            time_base=packet.time_base or self._time_base,
            is_keyframe=packet.is_keyframe,
            coding=coding,
            hidden=hidden,
        )


def _parameter_sets(codec: str, data: bytes) -> dict[int, bytes]:
    """Return the parameter sets in ``data`` by type; b"" for a type without one."""
    types, shift, mask = _PARAMETER_SETS[codec]
    found = dict.fromkeys(types, b"")
    for unit in data.split(_START_CODE)[1:]:
        content = unit.rstrip(b"\x00")
        kind = content[0] >> shift & mask if content else None
        if kind in found:
            found[kind] += _START_CODE + content
    return found


def _has_start_codes(configuration: bytes) -> bool:
    """Return whether a codec's configuration consists of NAL units with start codes."""
    return _START_CODE in configuration[:4]


def _filter_of(stream: VideoStream, codec: str) -> BitStreamFilterContext | None:
    """Return what converts the packets; None if they have start codes, as all of a camera's do."""
    name, configuration = _FILTERS.get(codec), stream.codec_context.extradata or b""
    if name is None or not configuration or _has_start_codes(configuration):
        return None
    try:
        return BitStreamFilterContext(name, stream)
    except av.FFmpegError:
        raise SourceError(
            "its codec configuration is damaged, so it can't be copied; "
            "record.video: annotated may work",
            "open_failed",
        ) from None


class PacketTimeline:
    """Numbers the packets of a stream and places them on the timeline of its frames.

    A packet keeps its distance to the picture it came with: when the timeline moves a picture,
    its packets move along.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last_dts: int | None = None

    def place(
        self, picture: Picture, pts: int, time_base: Fraction, wall_time: float
    ) -> Iterator[Packet]:
        """Yield the packets of ``picture``, which has ``pts`` on the stream's timeline."""
        if not picture.packets:
            return
        own, own_unit = picture.pts, picture.time_base

        def moved(time: int | None, unit: Fraction) -> int | None:
            if own is None:
                return pts
            if time is None:
                return None
            # As integers: arithmetic with fractions costs ten times as much, for every packet.
            scale = unit.denominator * own_unit.denominator
            away = time * unit.numerator * own_unit.denominator
            away -= own * own_unit.numerator * unit.denominator
            if abs(away) > _FARTHEST * scale:  # the source's clock was set in between
                return None
            return pts + _rounded(away * time_base.denominator, scale * time_base.numerator)

        for packet, dts in zip(picture.packets, _decoding(picture.packets, moved), strict=True):
            shown = moved(packet.pts, packet.time_base)
            if packet.hidden:
                shown = pts if shown is None else max(shown, pts)
            yield self._placed(packet, shown, dts, time_base, wall_time)

    def _placed(
        self,
        packet: SourcePacket,
        pts: int | None,
        dts: int | None,
        time_base: Fraction,
        wall_time: float,
    ) -> Packet:
        """Return the packet with times a muxer accepts: increasing dts, and pts not before dts."""
        if self._last_dts is None:
            dts = next((time for time in (dts, pts) if time is not None), 0)
        else:
            dts = self._last_dts + 1 if dts is None else max(dts, self._last_dts + 1)
        self._last_dts = dts
        self.count += 1
        return Packet(
            number=self.count,
            data=packet.data,
            pts=dts if pts is None else max(pts, dts),
            dts=dts,
            duration=_rounded(
                packet.duration * packet.time_base.numerator * time_base.denominator,
                packet.time_base.denominator * time_base.numerator,
            ),
            time_base=time_base,
            is_keyframe=packet.is_keyframe,
            wall_time=wall_time,
            coding=packet.coding,
            hidden=packet.hidden,
        )


def _rounded(dividend: int, divisor: int) -> int:
    """Return the quotient as `round` rounds it: halves to the even number."""
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or (2 * rest == divisor and quotient % 2))


def _decoding(
    packets: Sequence[SourcePacket], moved: Callable[[int | None, Fraction], int | None]
) -> Sequence[int | None]:
    """Return decoding times; hidden packets get one tick each, right before the next shown."""
    times = [moved(packet.dts, packet.time_base) for packet in packets]
    hidden = [number for number, packet in enumerate(packets) if packet.hidden]
    if hidden:  # the last packet is not
        after = hidden[-1] + 1
        end = times[after]
        for number in range(hidden[0], after):
            times[number] = None if end is None else end - (after - number)
    return times

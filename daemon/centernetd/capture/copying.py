"""Moving a source's packets onto the timeline of its stream."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from centernetd.capture.source import Picture, SourcePacket
from centernetd.flow import Packet

_FARTHEST = 10  # seconds a packet may be away from the picture it came with


class Copying:
    """Numbers the packets of a stream and places them on the timeline of its frames.

    A packet keeps its distance to the picture it came with: when the timeline moves a picture,
    its packets move along.
    """

    def __init__(self) -> None:
        self.passed = 0
        self._last_dts: int | None = None

    def packets(
        self, picture: Picture, pts: int, time_base: Fraction, wall_time: float
    ) -> Iterator[Packet]:
        """Yield the packets of ``picture``, which has ``pts`` on the stream's timeline."""
        own = None if picture.pts is None else picture.pts * picture.time_base

        def moved(time: int | None, unit: Fraction) -> int | None:
            if own is None:
                return pts
            away = None if time is None else time * unit - own
            if away is None or abs(away) > _FARTHEST:  # the source's clock was set in between
                return None
            return pts + round(away / time_base)

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
        self.passed += 1
        return Packet(
            number=self.passed,
            data=packet.data,
            pts=dts if pts is None else max(pts, dts),
            dts=dts,
            duration=round(packet.duration * packet.time_base / time_base),
            time_base=time_base,
            is_keyframe=packet.is_keyframe,
            wall_time=wall_time,
            coding=packet.coding,
            hidden=packet.hidden,
        )


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

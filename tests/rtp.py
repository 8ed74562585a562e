"""Pictures and sound as RTP packets (RFC 6184, 7798, 3551) inside an RTSP connection."""

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CLOCK = 90_000  # of video in RTP (RFC 3551)
PAYLOAD_TYPE = 96
SOUND_RATE = 8000  # of PCMU, whose payload type is 0

_LARGEST_PAYLOAD = 1400  # of an RTP packet: larger units are cut into FU-A fragments
_SPS, _PPS, _FU_A = 7, 8, 28  # kinds of NAL units in H.264
_FU = 49  # in H.265
_IDR = 5


def kind_of(unit: bytes, codec: str) -> int:
    """Return the kind of a NAL unit."""
    return unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F


@dataclass(frozen=True)
class Video:
    """A closed loop of pictures: each is the list of its NAL units.

    Only of H.264 the parameter sets and the pictures without keys are recognised.
    """

    pictures: Sequence[Sequence[bytes]]
    rate: int
    codec: str = "h264"

    @property
    def parameter_sets(self) -> list[bytes]:
        return [unit for unit in self.pictures[0] if unit[0] & 0x1F in (_SPS, _PPS)]

    @property
    def without_keys(self) -> "Video":
        """The pictures that can't be decoded by themselves."""
        return Video(
            [p for p in self.pictures if not any(u[0] & 0x1F == _IDR for u in p)], self.rate
        )

    @property
    def with_sets_everywhere(self) -> "Video":
        """The same with the parameter sets before each slice of a key frame, as GStreamer does."""
        sets, keys = {"h264": ((7, 8), (5,)), "hevc": ((32, 33, 34), (19, 20, 21))}[self.codec]
        own = [unit for unit in self.pictures[0] if kind_of(unit, self.codec) in sets]
        pictures = [
            [
                u
                for unit in picture
                for u in ([*own, unit] if kind_of(unit, self.codec) in keys else [unit])
            ]
            for picture in self.pictures
        ]
        return Video(pictures, self.rate, self.codec)


class Packets:
    """Makes the RTP packets of one connection, each with the interleaving header before it."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def of(self, units: Sequence[bytes], timestamp: int, codec: str) -> list[bytes]:
        cut = {"h264": _payloads, "hevc": _payloads_h265}[codec]
        payloads = [payload for unit in units for payload in cut(unit)]
        last = len(payloads) - 1
        return [
            self._packet(payload, timestamp, marker=index == last)
            for index, payload in enumerate(payloads)
        ]

    def endless(self, timestamp: int) -> Iterator[bytes]:
        """Yield the fragments of an H.264 key picture that has no end."""
        for head in itertools.chain([0x80 | _IDR], itertools.repeat(_IDR)):
            payload = bytes([0x60 | _FU_A, head]) + bytes(range(1, 200)) * 7
            yield self._packet(payload, timestamp, marker=False)

    def _packet(self, payload: bytes, timestamp: int, *, marker: bool) -> bytes:
        kind = PAYLOAD_TYPE | (0x80 if marker else 0)
        number = next(self._numbers) & 0xFFFF
        header = struct.pack("!BBHII", 0x80, kind, number, timestamp & 0xFFFFFFFF, 1)
        return _framed(0, header + payload)


def sound(seconds: float) -> Iterator[bytes]:
    """Yield packets of silence (PCMU), each so long, on the second pair of channels."""
    samples = round(seconds * SOUND_RATE)
    for number in itertools.count():
        header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * samples & 0xFFFFFFFF, 2)
        yield _framed(2, header + bytes([0xFF]) * samples)


def _framed(channel: int, packet: bytes) -> bytes:
    """Return a packet with the interleaving header before it (RFC 2326, 10.12)."""
    return struct.pack("!cBH", b"$", channel, len(packet)) + packet


def _payloads(unit: bytes) -> Iterator[bytes]:
    """Yield a NAL unit whole, or cut into FU-A fragments."""
    if len(unit) <= _LARGEST_PAYLOAD:
        yield unit
        return
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    for start in range(1, len(unit), _LARGEST_PAYLOAD):
        part = unit[start : start + _LARGEST_PAYLOAD]
        first, last = start == 1, start + _LARGEST_PAYLOAD >= len(unit)
        yield bytes([indicator, kind | (first << 7) | (last << 6)]) + part


def _payloads_h265(unit: bytes) -> Iterator[bytes]:
    """Yield a NAL unit whole, or cut into fragments (RFC 7798, 4.4.3)."""
    if len(unit) <= _LARGEST_PAYLOAD:
        yield unit
        return
    head, kind = bytes([unit[0] & 0x81 | _FU << 1, unit[1]]), unit[0] >> 1 & 0x3F
    for start in range(2, len(unit), _LARGEST_PAYLOAD):
        part = unit[start : start + _LARGEST_PAYLOAD]
        first, last = start == 2, start + _LARGEST_PAYLOAD >= len(unit)
        yield head + bytes([kind | (first << 7) | (last << 6)]) + part

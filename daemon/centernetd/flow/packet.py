"""Encoded packets on their way to a recording, and how they are coded."""

from dataclasses import dataclass
from fractions import Fraction

Orientation = tuple[int, int, int, int]
"""How to display a picture: a, b, c, d, of which two are 0 and two are 1 or -1.

The point ``x`` to the right and ``y`` down is displayed at a*x + c*y to the right and
b*x + d*y down (ISO/IEC 14496-12, 8.3.2).
"""
UPRIGHT: Orientation = (1, 0, 0, 1)


@dataclass(frozen=True, slots=True)
class Coding:
    """How a run of packets is coded and displayed; a file holds packets of one coding.

    ``codec`` is FFmpeg's name (h264, hevc), ``width`` and ``height`` are in pixels.
    ``parameters`` are the codec's parameter sets known apart from the packets.
    ``aspect`` is a pixel's width over its height, before ``orientation``. ``colours`` are range,
    matrix, primaries and transfer, numbered as in FFmpeg and ITU-T H.273.
    """

    codec: str
    width: int
    height: int
    parameters: bytes = b""
    aspect: Fraction = Fraction(1)
    orientation: Orientation = UPRIGHT
    colours: tuple[int, int, int, int] = (0, 2, 2, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One coded picture: a NAL unit stream with start codes (ITU-T H.264, annex B).

    Key frames carry their parameter sets. ``number`` counts a stream's packets from 1, so
    that gaps can be detected. ``pts``, ``dts`` and ``duration`` count ``time_base`` seconds on
    the stream's timeline; ``dts`` increases strictly. ``wall_time`` is Unix time in seconds.

    A ``hidden`` packet is never shown, but others are predicted from it. One that precedes all
    shown packets has the ``pts`` of the first picture after it.
    """

    number: int
    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_keyframe: bool
    wall_time: float
    coding: Coding
    hidden: bool = False

    @property
    def time(self) -> float:
        """Seconds on the stream's timeline."""
        return float(self.pts * self.time_base)

"""Encoded video on its way to a recording."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Coding:
    """How a run of packets is coded; a file holds packets of one coding.

    ``codec`` is FFmpeg's name (h264, hevc), ``width`` and ``height`` are in pixels.
    ``parameters`` are the codec's parameter sets, as far as they are told beside the packets.
    """

    codec: str
    width: int
    height: int
    parameters: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One coded picture: a NAL unit stream with start codes (ITU-T H.264, annex B).

    Key frames carry their parameter sets. ``number`` counts a stream's packets from 1 on, so
    that a gap can be seen. ``pts``, ``dts`` and ``duration`` count ``time_base`` seconds on the
    stream's timeline; ``dts`` increases strictly. ``wall_time`` is Unix time in seconds.
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

    @property
    def time(self) -> float:
        """Seconds on the stream's timeline."""
        return float(self.pts * self.time_base)

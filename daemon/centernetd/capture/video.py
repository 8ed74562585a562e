"""Files and network streams, read and decoded through PyAV."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from typing import cast

import av
from av.codec.context import Flags2
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from centernetd.capture.access_units import WholePictures
from centernetd.capture.container import (
    explain_decoding_error,
    open_container,
    total_frames,
    video_of,
)
from centernetd.capture.decoding import Decoder, DecoderChoice, GpuDecoderError
from centernetd.capture.ending import CONTINUES, Ending
from centernetd.capture.http_file import HttpFile, open_http_file
from centernetd.capture.packets import PacketCopier
from centernetd.capture.pixels import Display
from centernetd.capture.source import Picture, Source, SourceInfo
from centernetd.capture.timeline import FileTimes
from centernetd.capture.web import Allowance
from centernetd.config import StreamConfig
from centernetd.errors import SourceError

_WITHOUT_PTS = frozenset({"asf", "avi", "h264", "hevc"})  # formats in decoding order
# Formats that number their frames at an invented rate; arrival times are more accurate.
_UNTIMED = frozenset({"mpjpeg", "mjpeg"})
# Decoders that return nothing before a key frame or an announced recovery point, at which an
# encoder without key frames has refreshed the whole picture.
_STRICT = frozenset({"h264", "hevc"})
# The H.265 decoder waits forever if none is announced, as by x265 and others.
_STRICTEST = "hevc"
_INTRA = int(PictureType.I)  # comparing with the member itself takes four times as long
_REFRESHED = 2  # recovery points: between two of them, an encoder refreshes the whole picture


def open_video(stream: StreamConfig, choice: DecoderChoice) -> "VideoSource":
    """Open the source of ``stream`` with the decoder that ``choice`` selects.

    ``stream.stall_timeout`` seconds limit opening and, on a network, each read.

    Raises
    ------
    GpuDecoderError
        When the GPU's decoder couldn't be opened, which is not retried.
    SourceError
        When it can't be opened or has no video.
    """
    allowance = Allowance(stream.stall_timeout)
    with ExitStack() as opened:
        http_file = None
        if stream.source.is_web:
            http_file = open_http_file(stream, allowance)
            opened.callback(http_file.close)
        container, accelerated = _open_container(stream, choice, http_file)
        opened.callback(container.close)
        try:
            video = video_of(container)
            decoder = Decoder(video.codec_context, choice, accelerated=accelerated)
            source = VideoSource(stream, container, video, decoder, allowance, http_file)
        except SourceError:
            if http_file is not None:
                http_file.check()  # where it broke off, there is no video yet
            raise
        opened.pop_all()
        return source


def _open_container(
    stream: StreamConfig, choice: DecoderChoice, http_file: HttpFile | None
) -> tuple[InputContainer, bool]:
    """Return the container, and whether the GPU is to decode its video."""
    accelerator = choice.accelerator()
    try:
        return open_container(stream, accelerator, http_file), accelerator is not None
    except SourceError:
        if accelerator is not None and choice.open_failed():
            raise GpuDecoderError("the GPU's decoder can't be opened", "open_failed") from None
        raise


class VideoSource(Source):
    """A file or network stream, decoded to BGR by one thread or the GPU."""

    damaged = 0

    def __init__(
        self,
        stream: StreamConfig,
        container: InputContainer,
        video: VideoStream,
        decoder: Decoder,
        allowance: Allowance,
        http_file: HttpFile | None = None,
    ) -> None:
        """Read the track ``video`` of ``container``, whose bytes ``http_file`` supplies, if any.

        ``allowance`` limits what is read per picture.

        Raises
        ------
        SourceError
            When its packets are to be recorded and its codec configuration is damaged.
        """
        self._live, self._timeout = not stream.from_file, stream.stall_timeout
        self._container, self._video, self._decoder = container, video, decoder
        self._allowance, self._http_file = allowance, http_file
        time_base, form = video.time_base or Fraction(1, 90_000), container.format.name
        without_pts = not self._live and form in _WITHOUT_PTS
        self._untimed = self._live and form in _UNTIMED
        self._times = None if self._live else FileTimes(time_base, without_pts=without_pts)
        self._copier = PacketCopier(video, timed=not without_pts) if stream.copies else None
        self._whole = WholePictures(video, live=self._live)
        self._ending = None if self._live else Ending(container, video)
        self._display = Display(video)
        self._info = SourceInfo(
            codec=video.codec_context.codec.canonical_name,
            decoder=decoder.name,
            time_base=time_base,
            total_frames=total_frames(container, video),
            in_bursts=http_file is not None and http_file.in_bursts,
            complete=http_file is not None and http_file.complete,
            has_sound=bool(container.streams.audio),
        )
        self._gate = DamageGate(self._info.codec, self._timeout / 2, time.monotonic())
        self._fruitless = 0  # packets since the last whole picture
        # The position of the last packet, in a format that stores a track's packets in order.
        self._position = -1 if form == "mpegts" else None

    @property
    def info(self) -> SourceInfo:
        """Properties of the source; ``decoder`` changes if the GPU's is given up."""
        return self._info

    @property
    def held_back(self) -> int:
        """Pictures counted as damaged only because no intact one preceded them."""
        return self._gate.held_back

    def close(self) -> None:
        """Close the connection or file; leaving it to the collector leaks threads and memory."""
        self._container.close()
        self._decoder.close()
        if self._http_file is not None:
            self._http_file.close()

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures until the end.

        Packets that can't be decoded are skipped. On a network, so are pictures before the first
        intact one, and from a damaged one to the next intact one (`DamageGate`).

        Raises
        ------
        GpuDecoderError
            When the GPU fails; the next source of this stream is decoded by software.
        SourceError
            When reading fails, packets yield no picture for too long, or a file was cut off.
        """
        self._allowance.renew()
        try:
            for packet in self._packets():
                started = time.monotonic()
                for frame in self._decode_and_copy(packet):
                    if not self._is_whole(frame):
                        continue
                    yield self._picture(frame, started)
                    started = time.monotonic()
                    self._allowance.renew()
        except av.error.ExitError:
            raise SourceError(f"nothing was received for {self._timeout:g} s", "stalled") from None
        except av.FFmpegError as error:
            reason = "over_limit" if isinstance(error, MemoryError) else "read_failed"
            why = explain_decoding_error(error)
            raise SourceError(f"reading stopped: {why}", reason) from None
        if self._times is not None and self._ending is not None:
            pictured = self._times.end * self._info.time_base
            self._ending.check(pictured, cut=self._times.cuts > 0)

    def _packets(self) -> "Iterator[Packet[VideoStream]]":
        """Yield the packets of the video, each of them a whole picture."""
        for packet in self._demuxed():
            if self._live and self._allowance.is_over:
                raise SourceError(self._why_no_picture, "stalled")
            if self._ending is not None:
                self._ending.note(packet)
            if packet.stream is self._video and not self._is_late(packet):
                yield from self._whole.add(cast("Packet[VideoStream]", packet))

    def _is_late(self, packet: "Packet[Stream]") -> bool:
        """Return whether to skip a packet that comes after those that follow it.

        FFmpeg returns the last one before a change of PID when that PID is used again, or at the
        end. It would be shown out of order, and decoded from pictures that it does not refer to.
        """
        if self._position is None or packet.pos is None:
            return False
        late = packet.pos < self._position
        self._position = max(self._position, packet.pos)
        self.damaged += late
        return late

    def _demuxed(self) -> "Iterator[Packet[Stream]]":
        """Yield the packets of every track: audio may outlast the pictures."""
        try:
            yield from self._container.demux()
        except IndexError:  # PyAV's error for a track that did not exist when the file was opened
            raise SourceError(CONTINUES) from None
        except av.FFmpegError:
            self._check_http_file()
            raise
        self._check_http_file()

    def _check_http_file(self) -> None:
        if self._http_file is not None:
            self._http_file.check()

    def _decode_and_copy(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        before, frames = self.damaged, self._decode(packet)
        if self._ending is not None:
            self._ending.note_decoded(packet, pictures=len(frames))
        if self._copier is not None and not self._copier.add(packet):
            self.damaged = before + 1  # once, even if the decoder reported it too
        return frames

    def _decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        if self._times is not None:
            self._times.place(packet)
        self._fruitless += 1
        if packet.is_keyframe:  # the parser reports recovery points as key frames
            self._gate.reach_recovery_point()
        if self._live and self._gate.overrules_decoder(time.monotonic()):
            self._video.codec_context.flags2 |= Flags2.show_all
        try:
            return self._decoder.decode(packet)
        except av.error.InvalidDataError:
            self.damaged += 1
            self._gate.shut(time.monotonic())
            if self._times is not None:
                self._times.forget(packet)
            return []

    def _is_whole(self, frame: VideoFrame) -> bool:
        """Return whether to yield a picture; of a file, all that can be decoded are."""
        if self._live and not self._gate.admits(frame, time.monotonic()):
            self.damaged += 1
            return False
        self._fruitless = 0
        return True

    @property
    def _why_no_picture(self) -> str:
        sentence = f"no picture for {self._timeout:g} s"
        if not self._fruitless:
            return sentence
        if self.damaged > self.held_back:
            return f"{sentence}: what was received is damaged, or predicted from damaged pictures"
        return (
            f"{sentence}: video was received, but neither a key frame nor a recovery point to "
            "start from; set the camera to send key frames more often"
        )

    def _picture(self, frame: VideoFrame, started: float) -> Picture:
        orientation, aspect, coded_aspect = self._display(frame)
        image = self._decoder.image(frame, orientation)
        if self._decoder.name != self._info.decoder:
            self._info = replace(self._info, decoder=self._decoder.name)
        took = time.monotonic() - started
        pts, copier = self._pts(frame), self._copier
        packets = () if copier is None else copier.take(orientation, coded_aspect)
        return Picture(image, pts, self._info.time_base, took, packets, is_key(frame), aspect)

    def _pts(self, frame: VideoFrame) -> int | None:
        if self._times is None:
            return None if self._untimed else frame.pts
        decoded, pts = self._times.show(frame)
        if self._copier is not None:
            self._copier.show(decoded, pts)
        return pts


def is_key(frame: VideoFrame) -> bool:
    """Return whether ``frame`` was coded without reference to others."""
    return bool(frame.key_frame or frame.pict_type == _INTRA)


class DamageGate:
    """Admits pictures from an intact one on, until the next damage.

    Damage to one picture spreads to all predicted from it, and a decoder only marks the first.
    These are intact: a key frame, which depends on no other; a picture after two recovery
    points, between which an encoder without key frames refreshes all of it; and one after
    ``patience`` seconds without damage, as errors fade and key frames may be rare.
    """

    def __init__(self, codec: str, patience: float, now: float) -> None:
        """Begin at the monotonic time ``now`` with the output of a new decoder."""
        self.held_back = 0
        """Pictures not marked as corrupt, but without a key frame or recovery point before them."""
        self._codec = codec
        self._open = codec in _STRICT
        self._patience = patience
        self._damaged_at = now
        self._recovery_points = 0
        self._decoder_gives = False

    def shut(self, now: float) -> None:
        """Hold pictures back until the next intact one; damage was at the monotonic ``now``."""
        self._open = False
        self._damaged_at = now
        self._recovery_points = 0

    def reach_recovery_point(self) -> None:
        """Record that an encoder starts a refresh or sends a key frame."""
        self._recovery_points += 1

    def overrules_decoder(self, now: float) -> bool:
        """Return whether to request what the decoder holds back; it marks all of it as corrupt."""
        if self._decoder_gives or self._codec != _STRICTEST:
            return False
        return now - self._damaged_at >= self._patience

    def admits(self, frame: VideoFrame, now: float) -> bool:
        """Return whether ``frame`` and everything it was predicted from is intact."""
        if not frame.is_corrupt:
            self._decoder_gives = True
            if self._open:
                return True
        elif not self.overrules_decoder(now):
            self.shut(now)
            return False
        self._open = (
            self._open
            or self._recovery_points >= _REFRESHED
            or now - self._damaged_at >= self._patience
            or is_key(frame)
        )
        self.held_back += not self._open
        return self._open

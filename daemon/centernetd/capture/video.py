"""Files and network streams, read and decoded through PyAV."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import cast

import av
from av.codec.context import Flags2
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from centernetd.capture.access_units import WholePictures
from centernetd.capture.container import (
    open_container,
    said,
    total_frames,
    video_of,
    why_decoding_failed,
)
from centernetd.capture.decoding import Decoding, GpuDecoderError
from centernetd.capture.ending import GOES_ON, Ending
from centernetd.capture.feed import Feed, open_feed
from centernetd.capture.packets import MOST_REORDERED, PacketCopier
from centernetd.capture.pixels import Download, ToBgr, orientation_of, upright
from centernetd.capture.source import Picture, Source, SourceInfo
from centernetd.capture.timeline import Splice
from centernetd.capture.web import Allowance
from centernetd.config import StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.config.sections import Transport
from centernetd.errors import EngineError, SourceError
from centernetd.flow import UPRIGHT, Orientation

_IN_DECODING_ORDER = frozenset({"asf", "avi", "h264", "hevc"})  # formats without presentation times
# Formats that number their frames at an invented rate; arrival times are more accurate.
_UNTIMED = frozenset({"mpjpeg", "mjpeg"})
# Decoders that return nothing before a key frame or an announced recovery point, at which an
# encoder without key frames has refreshed the whole picture.
_CAREFUL = frozenset({"h264", "hevc"})
# The H.265 decoder waits forever if none is announced, as by x265 and others.
_TOO_CAREFUL = "hevc"
_REFRESHED = 2  # recovery points: between two of them, an encoder refreshes the whole picture


class VideoSource(Source):
    """A file or network stream, decoded to BGR by one thread or the GPU."""

    damaged = 0

    def __init__(self, stream: StreamConfig, decoding: Decoding) -> None:
        """Open the source of ``stream`` with the decoder that ``decoding`` selects.

        ``stream.stall_timeout`` seconds limit opening and, on a network, each read.

        Raises
        ------
        GpuDecoderError
            When the GPU's decoder couldn't be opened, which is not retried.
        SourceError
            When it can't be opened or has no video.
        """
        uri, timeout = stream.source, stream.stall_timeout
        self._live = not stream.from_file
        self._timeout = timeout
        self._decoding = decoding
        self._allowance = Allowance(timeout)
        self._feed: Feed | None = None
        if uri.is_web:
            self._feed = open_feed(uri, self._allowance, stream.follow_hosts, once=stream.from_file)
        self._container = self._opened(uri, stream.transport)
        try:
            self._stream = video_of(self._container)
            self._guessed = not self._live and self._container.format.name in _IN_DECODING_ORDER
            self._copier = (
                PacketCopier(self._stream, told=not self._guessed) if stream.copies else None
            )
        except SourceError:
            self.close()
            self._check_feed()  # where it broke off, there is no video yet
            raise
        context = self._stream.codec_context
        self._download: Download | None = None
        self._to_bgr = ToBgr()
        # The pixel aspect of the container takes precedence over that of the video.
        told = self._stream.sample_aspect_ratio
        self._told_aspect = None if told == context.sample_aspect_ratio else told
        self._orientation: Orientation | None = None
        self._angle = 0  # at the last read of the orientation
        self._expected_pts = 0
        self._next_dts = 0
        self._decoded: deque[int] = deque(maxlen=MOST_REORDERED + 1)  # their dts
        self._untimed = self._live and self._container.format.name in _UNTIMED
        self._info = SourceInfo(
            codec=context.codec.canonical_name,
            decoder=self._decoder,
            time_base=self._stream.time_base or Fraction(1, 90_000),
            total_frames=total_frames(self._container, self._stream),
            in_bursts=self._feed is not None and self._feed.in_bursts,
            complete=self._feed is not None and self._feed.complete,
            has_sound=bool(self._container.streams.audio),
        )
        self._whole = WholePictures(self._stream, live=self._live)
        self._gate = DamageGate(self._info.codec, timeout / 2, time.monotonic())
        self._ending = Ending(self._container, self._stream)
        self._splice = Splice(self._info.time_base)
        self._fruitless = 0  # packets since the last whole picture

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
            for any_packet in self._packets():
                started = time.monotonic()
                if self._live and self._allowance.is_over:
                    raise SourceError(self._why_no_picture, "stalled")
                self._ending.note(any_packet)
                if any_packet.stream is not self._stream:
                    continue
                for packet in self._whole.add(cast("Packet[VideoStream]", any_packet)):
                    for frame in self._decode_and_copy(packet):
                        if not self._is_whole(frame):
                            continue
                        yield self._picture(frame, started)
                        started = time.monotonic()
                        self._allowance.renew()
        except av.error.ExitError:
            raise SourceError(f"nothing came for {self._timeout:g} s", "stalled") from None
        except av.FFmpegError as error:
            reason = "over_limit" if isinstance(error, MemoryError) else "read_failed"
            raise SourceError(f"reading stopped: {why_decoding_failed(error)}", reason) from None
        if not self._live:
            pictured = self._expected_pts * self._info.time_base
            self._ending.check(pictured, cut=self._splice.cuts > 0)

    def _packets(self) -> "Iterator[Packet[Stream]]":
        """Yield the packets of every track: audio may outlast the pictures."""
        try:
            yield from self._container.demux()
        except IndexError:  # PyAV's error for a track that did not exist when the file was opened
            raise SourceError(GOES_ON) from None
        except av.FFmpegError:
            self._check_feed()
            raise
        self._check_feed()

    def close(self) -> None:
        """Close the connection or file; leaving it to the collector leaks threads and memory."""
        self._container.close()
        if self._feed is not None:
            self._feed.close()

    def _check_feed(self) -> None:
        if self._feed is not None:
            self._feed.check()

    def _opened(self, uri: SourceUri, transport: Transport) -> av.container.InputContainer:
        accelerator = self._decoding.accelerator()
        self._accelerated = self._awaits_gpu = accelerator is not None
        try:
            return open_container(uri, self._timeout, accelerator, transport, self._feed)
        except SourceError:
            if self._feed is not None:
                self._feed.close()
            if self._awaits_gpu and self._decoding.open_failed():
                raise GpuDecoderError("the GPU's decoder can't be opened", "open_failed") from None
            raise

    def _place(self, packet: "Packet[VideoStream]") -> None:
        """Shift a file's packet to its place on the timeline, before decoding or copying."""
        if self._guessed and packet.size:
            if packet.dts is None:  # an elementary stream has only a rate, in its durations
                packet.dts = self._next_dts
            self._next_dts = packet.dts + (packet.duration or 1)
            packet.pts = packet.dts  # the decoder hands it on to the picture: see `_pts`
        if shift := self._splice.shift(packet.dts, packet.pts):
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift

    def _decode_and_copy(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        before, frames = self.damaged, self._decode(packet)
        self._ending.note_decoded(packet, pictures=len(frames))
        if self._copier is not None and not self._copier.add(packet):
            self.damaged = before + 1  # once, even if the decoder reported it too
        return frames

    def _decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        if not self._live:
            self._place(packet)
        self._fruitless += 1
        if packet.is_keyframe:  # the parser reports recovery points as key frames
            self._gate.reach_recovery_point()
        if self._live and self._gate.overrules_decoder(time.monotonic()):
            self._stream.codec_context.flags2 |= Flags2.show_all
        if packet.dts is not None:
            self._decoded.append(packet.dts)
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            self.damaged += 1
            self._gate.shut(time.monotonic())
            if packet.dts is not None:
                self._decoded.pop()
            return []
        except av.FFmpegError as error:
            if not self._on_gpu:
                raise
            raise self._gpu_failed(said(error)) from None

    @property
    def info(self) -> SourceInfo:
        """Properties of the source; ``decoder`` changes if the GPU's is given up."""
        return self._info

    @property
    def held_back(self) -> int:
        """Pictures counted as damaged only because no intact one preceded them."""
        return self._gate.held_back

    @property
    def _why_no_picture(self) -> str:
        sentence = f"no picture for {self._timeout:g} s"
        if not self._fruitless:
            return sentence
        if self.damaged > self.held_back:
            return f"{sentence} that is whole: what came was damaged, or built on what was"
        return (
            f"{sentence}: video came, but neither a key frame nor a recovery point to begin with; "
            "have the camera send key frames more often"
        )

    def _in_memory(self, frame: VideoFrame) -> VideoFrame:
        """Return ``frame``, copied from the GPU if necessary."""
        on_gpu = frame.format.name == "cuda"  # checked first: PyAV 17 has no sw_format
        held = self._stream.codec_context.sw_format if on_gpu else None
        if held is None:
            return frame
        try:
            if self._download is None:
                self._download = Download(self._decoding.device)
            return self._download(frame, held.name)
        except EngineError as error:
            raise self._gpu_failed(str(error)) from None

    def _gpu_failed(self, why: str) -> GpuDecoderError:
        self._decoding.give_up(f"the GPU's decoder failed ({why})")
        return GpuDecoderError(f"the GPU's decoder failed: {why}")

    def _is_whole(self, frame: VideoFrame) -> bool:
        """Return whether to yield a picture; of a file, all that can be decoded are."""
        whole = not self._live or self._gate.admits(frame, time.monotonic())
        self.damaged += not whole
        self._fruitless *= not whole
        return whole

    @property
    def _on_gpu(self) -> bool:
        """Whether the GPU decodes; FFmpeg decides again at each change of size or codec."""
        # Checked only if accelerated: PyAV 17 crashes on the format of video not yet probed.
        return self._accelerated and self._stream.codec_context.pix_fmt == "cuda"

    @property
    def _decoder(self) -> str:
        name = self._stream.codec_context.codec.name
        return f"{name} (cuda)" if self._on_gpu else name

    def _note_decoder(self, frame: VideoFrame) -> None:
        """Publish the decoder in use; raise SourceError if the GPU is required and not used."""
        if self._awaits_gpu and not self._on_gpu:
            self._awaits_gpu = False
            what = f"{self._info.codec} of {frame.width}x{frame.height}"
            self._decoding.give_up(f"the GPU doesn't decode this {what}")
        if self._decoder != self._info.decoder:
            self._info = replace(self._info, decoder=self._decoder)

    def _picture(self, frame: VideoFrame, started: float) -> Picture:
        self._note_decoder(frame)
        orientation, aspect = self._orientation_of(frame), self._aspect
        turned = orientation[0] == 0
        return Picture(
            image=upright(self._to_bgr(self._in_memory(frame)), orientation),
            pts=self._pts(frame),
            time_base=frame.time_base or self._info.time_base,
            decode_seconds=time.monotonic() - started,
            packets=() if self._copier is None else self._copier.take(orientation, aspect),
            is_key=is_key(frame),
            aspect=1 / aspect if turned else aspect,
        )

    def _orientation_of(self, frame: VideoFrame) -> Orientation:
        """Return how to display ``frame``; a camera sends that once for all frames that follow.

        Reading it takes a copy, and on a GPU a download. There it is only read when the angle
        changes, which PyAV reports without a copy.
        """
        angle, known = frame.rotation, self._orientation
        changed = angle != self._angle and (angle or frame.key_frame)
        if known is None or changed or (frame.key_frame and frame.format.name != "cuda"):
            self._angle = angle
            present = UPRIGHT if known is None or frame.key_frame else known
            self._orientation = known = orientation_of(frame) or present
        return known

    @property
    def _aspect(self) -> Fraction:
        """Pixel width over height of the last decoded picture."""
        told = self._told_aspect or self._stream.codec_context.sample_aspect_ratio
        return told or Fraction(1)

    def _pts(self, frame: VideoFrame) -> int | None:
        if self._live:
            return None if self._untimed else frame.pts
        pts = self._expected_pts if frame.pts is None else frame.pts
        if self._guessed and self._decoded:  # FFmpeg's guess is off by a picture now and then
            decoded, pts = pts, self._decoded.popleft()
            if self._copier is not None:
                self._copier.show(decoded, pts)
        self._expected_pts = pts + (frame.duration or 1)
        return pts


def is_key(frame: VideoFrame) -> bool:
    """Return whether ``frame`` was coded without reference to others."""
    return bool(frame.key_frame or frame.pict_type == PictureType.I)


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
        self._open = codec in _CAREFUL
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
        waited = now - self._damaged_at >= self._patience
        return waited and self._codec == _TOO_CAREFUL and not self._decoder_gives

    def admits(self, frame: VideoFrame, now: float) -> bool:
        """Return whether ``frame`` and everything it was predicted from is intact."""
        if frame.is_corrupt and not self.overrules_decoder(now):
            self.shut(now)
            return False
        self._decoder_gives |= not frame.is_corrupt
        self._open |= (
            is_key(frame)
            or self._recovery_points >= _REFRESHED
            or now - self._damaged_at >= self._patience
        )
        self.held_back += not self._open
        return self._open

"""Files and network streams, through PyAV."""

import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.capture.packets import PacketCopier
from daemon.capture.source import Picture, SourceInfo
from daemon.config.secret import SourceUri
from daemon.errors import SourceError

# What a URL may make FFmpeg open besides itself: never the local files of a hostile playlist.
_PROTOCOLS = {
    "file": "file",
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,tls,rtp,tcp",
    "http": "http,tcp,crypto",
    "https": "https,http,tls,tcp,crypto",
}
# Files that make FFmpeg open other files.
_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf"})
_ROTATIONS = {
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_LONGEST_GAP = 1.0  # seconds that a file may end before the end it announces
# Formats that number their frames at a made-up rate: the moment of arrival tells more.
_UNTIMED = frozenset({"mpjpeg", "mjpeg"})


class VideoSource:
    """A file or a network stream, decoded by one thread into BGR."""

    def __init__(self, uri: SourceUri, timeout: float, *, packets: bool = False) -> None:
        """Open ``uri``; ``timeout`` seconds limit opening and, on a network, each read.

        The pictures bring their ``packets`` along where that is asked for.

        Raises
        ------
        SourceError
            When it can't be opened or has no video.
        """
        self._live = not uri.is_file
        self._timeout = timeout
        self._container = _open(uri, timeout)
        try:
            _refuse_playlist(self._container, uri)
            self._stream = _video_stream(self._container)
        except SourceError:
            self.close()
            raise
        context = self._stream.codec_context
        context.thread_count = 1
        name = context.codec.name
        self._reformatter = VideoReformatter()
        self._expected_pts = 0
        self._untimed = self._live and self._container.format.name in _UNTIMED
        self.info = SourceInfo(
            codec=context.codec.canonical_name,
            decoder=name,
            time_base=self._stream.time_base or Fraction(1, 90_000),
            total_frames=_total_frames(self._container, self._stream),
        )
        self._copier = PacketCopier(self._stream) if packets else None
        self.damaged_packets = 0

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures until the end; packets that can't be decoded are passed over.

        Raises
        ------
        SourceError
            When the source can't be read on, sends packets for too long that make no picture, or
            is a file that was cut off.
        """
        pictured_at = time.monotonic()
        try:
            for packet in self._container.demux(self._stream):
                started = time.monotonic()
                if self._live and started - pictured_at > self._timeout:
                    raise SourceError(f"no picture for {self._timeout:g} s", "stalled")
                frames = self._decode(packet)
                if self._copier is not None:
                    self._copier.add(packet)
                for frame in frames:
                    yield self._picture(frame, started)
                    pictured_at = started = time.monotonic()
        except av.error.ExitError:
            raise SourceError(f"nothing came for {self._timeout:g} s", "stalled") from None
        except av.FFmpegError as error:
            raise SourceError(f"reading stopped: {_said(error)}") from None
        self._check_end()

    def close(self) -> None:
        """Close the connection or file; leaving it to the collector leaks threads and memory."""
        self._container.close()

    def _decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            self.damaged_packets += 1
            return []

    def _picture(self, frame: VideoFrame, started: float) -> Picture:
        return Picture(
            image=_upright(self._bgr(frame), frame.rotation),
            pts=self._pts(frame),
            time_base=frame.time_base or self.info.time_base,
            decode_seconds=time.monotonic() - started,
            packets=() if self._copier is None else self._copier.take(),
        )

    def _pts(self, frame: VideoFrame) -> int | None:
        if self._live:
            return None if self._untimed else frame.pts
        # A bare elementary stream has no pts but a rate, and that only in its durations.
        pts = self._expected_pts if frame.pts is None else frame.pts
        self._expected_pts = pts + (frame.duration or 1)
        return pts

    def _check_end(self) -> None:
        """Raise SourceError where a file ends long before the end that it announces."""
        announced = _announced_end(self._container, self._stream)
        if self._live or announced is None:
            return
        missing = float(announced - self._expected_pts * self.info.time_base)
        if missing > _LONGEST_GAP:
            raise SourceError(f"the file was cut off {missing:.1f} s before its end")

    def _bgr(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert to BGR and view the result in place: its rows keep FFmpeg's padding."""
        # High-definition video that says nothing is BT.709; swscale would take BT.601 for it.
        untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= 720
        source = Colorspace.ITU709 if untagged_hd else None
        # One reformatter for all: setting one up costs more than converting a 720p frame.
        converted = self._reformatter.reformat(
            frame, format="bgr24", src_colorspace=source, threads=1
        )
        plane = converted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
        return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def _open(uri: SourceUri, timeout: float) -> av.container.InputContainer:
    options = {"protocol_whitelist": _PROTOCOLS[uri.scheme], **_network_options(uri, timeout)}
    started = time.monotonic()
    try:
        # A named pipe may rightly have nothing to say for long.
        limits = None if uri.is_file else (timeout, timeout)
        return av.open(uri.reveal(), options=options, timeout=limits, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        # FFmpeg takes a server's silence for invalid data.
        silent = not uri.is_file and time.monotonic() - started >= timeout
        why = f"no answer for {timeout:g} s" if silent else _why(error, uri)
        raise SourceError(f"can't be opened: {why}", "open_failed") from None


def _network_options(uri: SourceUri, timeout: float) -> Mapping[str, str]:
    if uri.is_file:
        return {}
    # Without it FFmpeg gathers some 20 pictures to guess a rate that nobody asks for.
    options = {"fpsprobesize": "0"}
    if uri.scheme in ("rtsp", "rtsps"):
        return options | {"rtsp_transport": "tcp", "timeout": str(int(timeout * 1e6))}
    return options | {"rw_timeout": str(int(timeout * 1e6))}


def _refuse_playlist(container: av.container.InputContainer, uri: SourceUri) -> None:
    if uri.is_file and container.format.name in _PLAYLISTS:
        raise SourceError("is a playlist: give a file that it lists instead", "open_failed")


def _video_stream(container: av.container.InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise SourceError("has no video in it", "open_failed")


def _total_frames(container: av.container.InputContainer, stream: VideoStream) -> int | None:
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base and stream.average_rate:
        return round(stream.duration * stream.time_base * stream.average_rate)
    if container.duration and stream.average_rate:
        return round(container.duration / av.time_base * stream.average_rate)
    return None


def _announced_end(container: av.container.InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the second at which the pictures should end, or None where that isn't told.

    Formats differ in whether they count from 0 or from the first picture: the earlier is taken.
    """
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _upright(image: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """Turn ``image`` by the display matrix's counter-clockwise angle."""
    turn = _ROTATIONS.get(rotation % 360)
    return image if turn is None else np.asarray(cv2.rotate(image, turn), np.uint8)


def _why(error: OSError | av.FFmpegError, uri: SourceUri) -> str:
    if uri.is_file and Path(uri.reveal()).is_file() and Path(uri.reveal()).stat().st_size == 0:
        return "the file is empty"
    return _said(error)


def _said(error: OSError | av.FFmpegError) -> str:
    """Return the library's own words without the URL, which may hold a password."""
    return (error.strerror or "no reason given").lower()

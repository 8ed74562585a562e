"""Opening files and network streams with FFmpeg, and explaining why that failed."""

import ctypes
import errno
import functools
import re
import time
from pathlib import Path

import av
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from centernetd.capture.http_file import HttpFile
from centernetd.capture.web import SHARE
from centernetd.config import StreamConfig
from centernetd.errors import SourceError, StartupError

# Protocols that FFmpeg may open per URI scheme: never local files named by a hostile playlist,
# and none where `HttpFile` supplies the bytes.
_PROTOCOLS = {"file": "file", "rtsp": "rtsp,rtp,udp,tcp", "rtsps": "rtsps,rtsp,tls,rtp,tcp"}
# Containers accepted from servers: video formats that do not open anything else.
_CONTAINERS = (
    "asf,avi,flv,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,ogg,rtsp,webm"
)
# Formats that make FFmpeg open other files.
_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf"})
MAX_ALLOCATION = 128 << 20
"""Largest single allocation of FFmpeg. The largest picture accepted takes 113 MB as BGR."""
MAX_PIXELS = 8192 * 4608
"""Largest picture decoded, slightly above 8K; otherwise a few bytes could request gigabytes."""
TOO_MUCH = f"its data needs more than {MAX_ALLOCATION >> 20} MB in one piece"
SIZE_LIMIT = {"max_pixels": str(MAX_PIXELS)}
"""The decoder option that sets this limit."""
TOO_LARGE = f"pictures of more than {MAX_PIXELS / 1e6:.1f} million pixels are not supported"
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
_REFUSED = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)
_UNREACHABLE = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
    }
)


@functools.cache
def bound_allocations() -> None:
    """Limit each allocation by FFmpeg to `MAX_ALLOCATION`, process-wide.

    Otherwise a picture or packet that never ends would use up all memory.

    Raises
    ------
    StartupError
        When PyAV's FFmpeg does not offer such a limit.
    """
    try:
        # The lookup includes the library's dependencies, so this is PyAV's own FFmpeg.
        limit = ctypes.CDLL(av.logging.__file__).av_max_alloc
    except (OSError, AttributeError):
        raise StartupError(
            "the FFmpeg that PyAV brings has no av_max_alloc, without which a camera could take "
            "all memory: install PyAV's own wheel (pip install --force-reinstall av)"
        ) from None
    limit.argtypes, limit.restype = [ctypes.c_size_t], None
    limit(MAX_ALLOCATION)


def open_container(
    stream: StreamConfig, accelerator: HWAccel | None, http_file: HttpFile | None
) -> InputContainer:
    """Open the source of ``stream``; ``stall_timeout`` limits that and each read on a network.

    ``accelerator`` decodes the video, or software if None. ``http_file`` supplies the bytes of an
    http(s) URL.

    Raises
    ------
    SourceError
        When it can't be opened or is a local playlist.
    """
    bound_allocations()
    uri, limit = stream.source, SHARE * stream.stall_timeout
    started = time.monotonic()
    try:
        container = av.open(
            uri.reveal() if http_file is None else http_file,
            "r",
            format=None if http_file is None else http_file.format,
            options=_options_for(stream, limit),
            # A named pipe may be silent for a long time.
            timeout=None if uri.is_file else (limit, limit),
            metadata_errors="replace",
            hwaccel=accelerator,
        )
    except (av.FFmpegError, OSError) as error:
        if http_file is not None:
            http_file.check()
        if uri.is_file:
            why, reason = _explain_file_error(error, Path(uri.reveal()))
        elif time.monotonic() - started >= limit:  # FFmpeg reports a silent server as invalid data
            why, reason = f"no answer for {stream.stall_timeout:g} s", "unreachable"
        else:
            why, reason = _explain_network_error(error, stream)
        raise SourceError(f"can't be opened: {why}", reason) from None
    if uri.is_file and container.format.name in _PLAYLISTS:
        container.close()
        raise SourceError("is a playlist: give a file that it lists instead", "open_failed")
    return container


def _options_for(stream: StreamConfig, limit: float) -> dict[str, str]:
    options = {
        "protocol_whitelist": _PROTOCOLS.get(stream.source.scheme, "none"),
        # In a transport stream, video that continues under another PID is the same video.
        "merge_pmt_versions": "1",
        **SIZE_LIMIT,  # for pictures decoded to probe the streams
    }
    if not stream.source.is_file:
        # By default FFmpeg buffers about 20 pictures to estimate a rate that is not used.
        options |= {"fpsprobesize": "0", "format_whitelist": _CONTAINERS, "max_streams": "32"}
        if not stream.source.is_web:
            options |= {"rtsp_transport": stream.transport, "timeout": str(int(limit * 1e6))}
    return options


def video_of(container: InputContainer) -> VideoStream:
    """Return the video track to read, with its decoder's limits set.

    Of several, the default track is preferred, then the largest.

    Raises
    ------
    SourceError
        When video (cover art and thumbnails do not count) or its decoder is missing, or it is
        too large.
    """
    found = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    if not found:
        raise SourceError("contains no video", "open_failed")
    # PyAV has no context where FFmpeg has no decoder, although its types promise one.
    decodable = [stream for stream in found if stream.codec_context is not None]
    if not decodable:
        coding = _coding_of(container, found[0])
        raise SourceError(f"its video is coded as {coding}, which can't be decoded", "open_failed")
    read = max(
        decodable,
        key=lambda stream: (
            bool(stream.disposition & Disposition.default),
            stream.height * stream.width,
        ),
    )
    if read.width * read.height > MAX_PIXELS:
        raise SourceError(f"is {read.width}x{read.height}, and {TOO_LARGE}", "open_failed")
    read.codec_context.thread_count = 1
    read.codec_context.options = SIZE_LIMIT
    # Without this, FFmpeg crops the left side of pictures by multiples of 64 pixels only.
    read.codec_context.flags |= Flags.unaligned
    return read


def _coding_of(container: InputContainer, stream: VideoStream) -> str:
    """Return FFmpeg's name of a codec without a decoder, which only its text dump contains."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        listed = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    named = re.search(rf"Stream #0:{stream.index}\b.*?Video: (?:none \((\w+)|(\w+))", listed)
    return "something unknown" if named is None else named[1] or named[2]


def total_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Return the announced or estimated number of frames, or None if unknown."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base and stream.average_rate:
        return round(stream.duration * stream.time_base * stream.average_rate)
    if container.duration and stream.average_rate:
        return round(container.duration / av.time_base * stream.average_rate)
    return None


def reason_of(error: OSError | av.FFmpegError) -> str:
    """Return the library's error message without the URL, which may contain a password."""
    return (error.strerror or "no reason given").lower()


def explain_decoding_error(error: av.FFmpegError) -> str:
    """Return the message for a packet that can't be decoded."""
    if error.errno == errno.ENOMEM:
        return TOO_MUCH
    # FFmpeg's error for a picture whose excessive size only shows while it is decoded.
    return TOO_LARGE if isinstance(error, av.error.ArgumentError) else reason_of(error)


def _explain_file_error(error: OSError | av.FFmpegError, path: Path) -> tuple[str, str]:
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty", "open_failed"
    return reason_of(error), "open_failed"


def _explain_network_error(
    error: OSError | av.FFmpegError, stream: StreamConfig
) -> tuple[str, str]:
    """Return why a server can't be read, worded to suggest the fix, and the reason code."""
    reason = reason_of(error)
    if isinstance(error, _REFUSED):
        return f"the name or password is wrong, or lacks permission: {reason}", "unauthorized"
    if isinstance(error, av.error.HTTPNotFoundError):
        return f"there is nothing at this path: {reason}", "not_found"
    if error.errno == errno.ENOMEM:
        return TOO_MUCH, "over_limit"
    if error.errno == errno.EPROTONOSUPPORT and not stream.source.is_web:
        own, other = stream.transport, "udp" if stream.transport == "tcp" else "tcp"
        why = f"it does not send its video over {own.upper()}: set transport: {other}"
        return why, "open_failed"
    if error.errno in _UNREACHABLE:
        return reason, "unreachable"
    if error.errno == errno.EIO:  # FFmpeg's error for a host name that does not resolve
        return f"the host name is unknown, or the connection was lost: {reason}", "unreachable"
    if isinstance(error, av.error.InvalidDataError):
        return (
            f"the server sends no {stream.source.scheme.upper()} or no video: {reason}",
            "open_failed",
        )
    return reason, "open_failed"

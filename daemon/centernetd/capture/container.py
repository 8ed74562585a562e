"""Opening files and network streams with FFmpeg, and saying why that failed."""

import ctypes
import errno
import functools
import re
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from centernetd.capture.feed import Feed
from centernetd.capture.web import SHARE
from centernetd.config.secret import SourceUri
from centernetd.config.stream import Transport
from centernetd.errors import SourceError, StartupError

# What a source may make FFmpeg open: never the local files of a hostile playlist, and nothing at
# all where `Feed` brings the bytes.
_PROTOCOLS = {"file": "file", "rtsp": "rtsp,rtp,udp,tcp", "rtsps": "rtsps,rtsp,tls,rtp,tcp"}
# What a server may send: containers of video, none of which opens anything else.
_CONTAINERS = (
    "asf,avi,flv,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,ogg,rtsp,webm"
)
# Files that make FFmpeg open other files.
_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf"})
MOST_BYTES = 128 << 20
"""That FFmpeg may allocate in one piece. A picture of the most pixels has 113 MB as BGR."""
MOST_PIXELS = 8192 * 4608
"""Of a picture that is decoded: a little more than 8K. Else a few bytes could ask for gigabytes."""
TOO_MUCH = f"what it sends needs more than {MOST_BYTES >> 20} MB in one piece"
SIZE_LIMIT = {"max_pixels": str(MOST_PIXELS)}
"""What tells a decoder so."""
TOO_LARGE = f"pictures of more than {MOST_PIXELS / 1e6:.1f} million pixels aren't read"
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
    """Have FFmpeg refuse to allocate more than `MOST_BYTES` in one piece, in this whole process.

    Without it a picture or packet that never ends takes all memory there is.

    Raises
    ------
    StartupError
        When PyAV's FFmpeg doesn't offer it.
    """
    try:
        # A symbol is looked up in what a library is linked to, too: so this is PyAV's own FFmpeg.
        limit = ctypes.CDLL(av.logging.__file__).av_max_alloc
    except (OSError, AttributeError):
        raise StartupError(
            "the FFmpeg that PyAV brings has no av_max_alloc, without which a camera could take "
            "all memory: install PyAV's own wheel (pip install --force-reinstall av)"
        ) from None
    limit.argtypes, limit.restype = [ctypes.c_size_t], None
    limit(MOST_BYTES)


def open_container(
    uri: SourceUri,
    timeout: float,
    accelerator: HWAccel | None,
    transport: Transport = "tcp",
    feed: Feed | None = None,
) -> InputContainer:
    """Open ``uri``; ``timeout`` seconds limit that and, on a network, each read.

    ``accelerator`` is what its video is to be decoded by, None for software; ``transport`` is
    how RTSP sends it; ``feed`` is what brings that of an http(s) URL.

    Raises
    ------
    SourceError
        When it can't be opened, or is a playlist on this machine.
    """
    bound_allocations()
    limit = SHARE * timeout
    options = {
        "protocol_whitelist": _PROTOCOLS.get(uri.scheme, "none"),
        # In a transport stream: video that goes on under another PID is the same video.
        "merge_pmt_versions": "1",
        **SIZE_LIMIT,  # of what is decoded to find out what the streams are
        **_network_options(uri, limit, transport),
    }
    started = time.monotonic()
    try:
        container = av.open(
            uri.reveal() if feed is None else feed,
            "r",
            format=None if feed is None else feed.format,
            options=options,
            # A named pipe may rightly have nothing to say for long.
            timeout=None if uri.is_file else (limit, limit),
            metadata_errors="replace",
            hwaccel=accelerator,
        )
    except (av.FFmpegError, OSError) as error:
        if feed is not None:
            feed.check()
        # FFmpeg takes a server's silence for invalid data.
        if not uri.is_file and time.monotonic() - started >= limit:
            why = f"can't be opened: no answer for {timeout:g} s"
            raise SourceError(why, "unreachable") from None
        why, reason = _why_file(error, uri) if uri.is_file else _why_network(error, uri, transport)
        raise SourceError(f"can't be opened: {why}", reason) from None
    if uri.is_file and container.format.name in _PLAYLISTS:
        container.close()
        raise SourceError("is a playlist: give a file that it lists instead", "open_failed")
    return container


def video_of(container: InputContainer) -> VideoStream:
    """Return the video to be read, its decoder bounded.

    Of several it is the one that is meant to be shown by default, else the largest.

    Raises
    ------
    SourceError
        When there is none (the picture on the cover of a song and thumbnails aren't), when there
        is no decoder for it, or it is too large.
    """
    found = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    if not found:
        raise SourceError("has no video in it", "open_failed")
    # PyAV makes no context where FFmpeg has no decoder, whatever its types say.
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
    if read.width * read.height > MOST_PIXELS:
        raise SourceError(f"is {read.width}x{read.height}, and {TOO_LARGE}", "open_failed")
    read.codec_context.thread_count = 1
    read.codec_context.options = SIZE_LIMIT
    return read


def _coding_of(container: InputContainer, stream: VideoStream) -> str:
    """Return what FFmpeg calls a coding that it knows no decoder for: nothing else tells."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        listed = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    named = re.search(rf"Stream #0:{stream.index}\b.*?Video: (?:none \((\w+)|(\w+))", listed)
    return "something unknown" if named is None else named[1] or named[2]


def total_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Return how many frames a source says or seems to have, if it has an end."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base and stream.average_rate:
        return round(stream.duration * stream.time_base * stream.average_rate)
    if container.duration and stream.average_rate:
        return round(container.duration / av.time_base * stream.average_rate)
    return None


def announced_ends(
    container: InputContainer, stream: VideoStream
) -> tuple[Fraction | None, Fraction]:
    """Return the second at which the pictures should end, if known, and that of the longest track.

    Formats differ in whether they count from 0 or from the first picture: the earlier is taken.
    """
    own = stream.duration * stream.time_base if stream.duration and stream.time_base else None
    return own, Fraction(container.duration or 0, av.time_base)


def said(error: OSError | av.FFmpegError) -> str:
    """Return the library's own words without the URL, which may hold a password."""
    return (error.strerror or "no reason given").lower()


def why_decoding_failed(error: av.FFmpegError) -> str:
    """Return what to tell of a packet that can't be decoded."""
    if error.errno == errno.ENOMEM:
        return TOO_MUCH
    # What FFmpeg says of a picture that only turns out to be too large when it is decoded.
    return TOO_LARGE if isinstance(error, av.error.ArgumentError) else said(error)


def _network_options(uri: SourceUri, limit: float, transport: Transport) -> Mapping[str, str]:
    if uri.is_file:
        return {}
    # Without it FFmpeg gathers some 20 pictures to guess a rate that nobody asks for.
    options = {"fpsprobesize": "0", "format_whitelist": _CONTAINERS, "max_streams": "32"}
    if uri.is_web:
        return options
    return options | {"rtsp_transport": transport, "timeout": str(int(limit * 1e6))}


def _why_file(error: OSError | av.FFmpegError, uri: SourceUri) -> tuple[str, str]:
    if Path(uri.reveal()).is_file() and Path(uri.reveal()).stat().st_size == 0:
        return "the file is empty", "open_failed"
    return said(error), "open_failed"


def _why_network(
    error: OSError | av.FFmpegError, uri: SourceUri, transport: Transport
) -> tuple[str, str]:
    """Return why a server can't be read and the kind of it, so that people know what to mend."""
    if isinstance(error, _REFUSED):
        return f"the name or password is wrong, or not allowed this: {said(error)}", "unauthorized"
    if isinstance(error, av.error.HTTPNotFoundError):
        return f"there is nothing at this path: {said(error)}", "not_found"
    if error.errno == errno.ENOMEM:
        return TOO_MUCH, "over_limit"
    if error.errno == errno.EPROTONOSUPPORT and not uri.is_web:
        other = "udp" if transport == "tcp" else "tcp"
        why = f"it does not send its video over {transport.upper()}: set transport: {other}"
        return why, "open_failed"
    if error.errno in _UNREACHABLE:
        return said(error), "unreachable"
    if error.errno == errno.EIO:  # what FFmpeg says of a host that has no address
        return f"no server is found under this name, or it broke off: {said(error)}", "unreachable"
    if isinstance(error, av.error.InvalidDataError):
        return (
            f"what answers there sends no {uri.scheme.upper()} or no video: {said(error)}",
            "open_failed",
        )
    return said(error), "open_failed"

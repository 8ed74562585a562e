"""The decoder of a stream: the GPU's if it is wanted and works, else software."""

import functools
import logging
import platform

import av
from av.codec.context import Flags
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from centernetd.capture.container import reason_of
from centernetd.capture.pixels import ToImage
from centernetd.config import StreamConfig
from centernetd.cuda import Device, has_nvidia_device
from centernetd.errors import EngineError, SourceError
from centernetd.flow import Image, Orientation

log = logging.getLogger(__name__)

_MIN_PYAV = (18, 0)  # earlier PyAV loses colour tags and rotation of pictures decoded on a GPU
_PICTURES = 32  # of memory that a GPU's decoder may take; 20 were measured (H.264, 1080p, H200)
_CROPPING = frozenset({"h264", "hevc"})  # codecs that may crop the left and top of pictures


_on_gpus: set["Decoder"] = set()
"""The decoders that GPUs run in this process."""


class GpuDecoderError(SourceError):
    """The GPU's decoder failed on a source that software may still be able to read."""


def try_gpu(device: int) -> str:
    """Open GPU ``device`` for decoding and close it; return why that failed, or ""."""
    machine, release = platform.machine(), av.__version__
    if machine != "x86_64":
        return f"PyAV's builds for {machine} decode in software only"
    if tuple(map(int, release.split(".")[:2])) < _MIN_PYAV:
        return f"PyAV is {release}, which is older than {'.'.join(map(str, _MIN_PYAV))}"
    if "cuda" not in hwdevices_available():
        return "this build of PyAV does not support CUDA"
    try:
        Device(device)  # creates the context, so that FFmpeg shares it
        _accelerator(device).create(av.Codec("h264", "r"))
    except EngineError as error:
        return str(error)
    except (av.FFmpegError, OSError) as error:
        return f"FFmpeg can't open NVIDIA GPU {device} ({reason_of(error)})"
    return ""


@functools.cache
def probe(device: int) -> str:
    """Return the first result of `try_gpu`; a GPU added later requires a restart."""
    problem = try_gpu(device)
    if problem and has_nvidia_device():
        log.info("video is decoded on the CPU: %s", problem)
    return problem


def _accelerator(device: int) -> HWAccel:
    # The fallback lets FFmpeg use software for a codec or size that the GPU does not support.
    # The engine and all decoders share one CUDA context; each own one takes a few hundred MB.
    return HWAccel(
        "cuda",
        str(device),
        allow_software_fallback=True,
        options={"primary_ctx": "1"},
        is_hw_owned=True,
    )


class DecoderChoice:
    """The decoder of one stream, shared by its successive sources.

    With ``decode: auto``, a GPU decoder that failed is not tried again.
    """

    def __init__(self, stream: StreamConfig, *, surfaces: bool = False) -> None:
        """Select the decoder of ``stream``; with ``surfaces``, its pictures may stay on the GPU."""
        self.device = stream.device
        self.surfaces = surfaces and not stream.privacy.masks  # which are drawn in host memory
        self._stream = stream
        self._gave_up = stream.decode == "cpu"

    def accelerator(self) -> HWAccel | None:
        """Return the accelerator to open the next source with; None means software.

        Raises
        ------
        SourceError
            When the GPU is required and not available.
        """
        if self._gave_up:
            return None
        problem = probe(self.device)
        if problem:
            self._raise_if_required(problem)
            return None
        return _accelerator(self.device)

    def open_failed(self) -> bool:
        """Return whether the GPU is why a source couldn't be opened; if so, stop using it.

        Raises
        ------
        SourceError
            When it is, and the GPU is required.
        """
        problem = try_gpu(self.device)
        if problem:
            self.give_up(problem)
        return bool(problem)

    def give_up(self, problem: str) -> None:
        """Use software from now on, because of ``problem``.

        Raises
        ------
        SourceError
            When the GPU is required.
        """
        self._raise_if_required(problem)
        if not self._gave_up:
            self._gave_up = True
            message = "decoded on the CPU from now on: %s"
            log.warning(message, problem, extra={"stream": self._stream.name})

    def _raise_if_required(self, problem: str) -> None:
        if self._stream.decode == "cuda":
            raise SourceError(
                f"can't be decoded on the GPU: {problem}; set decode: auto", "open_failed"
            )


class Decoder:
    """The decoder of one open source.

    An ``accelerated`` one is the GPU's, but FFmpeg decides again at each change of size or codec.
    """

    def __init__(
        self, context: VideoCodecContext, choice: DecoderChoice, *, accelerated: bool
    ) -> None:
        self._context, self._choice = context, choice
        self._accelerated = accelerated
        self._to_image = ToImage(choice.device, surfaces=choice.surfaces)
        self._crops = accelerated and context.codec.canonical_name in _CROPPING
        # Rows and columns to crop, if known.
        self._corner: tuple[int, int] | None = None if self._crops else (0, 0)
        if self._crops:
            context.flags |= Flags.copy_opaque
        self._software_name = context.codec.name
        self._was_on_gpu = None if accelerated else False  # the last picture, if any
        self.name = self._named(on_gpu=self._on_gpu)
        """FFmpeg's name of the decoder, and whether it is the GPU's."""

    def decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        """Return the frames that ``packet`` completes.

        Raises
        ------
        av.error.FFmpegError
            When the packet can't be decoded.
        GpuDecoderError
            When the GPU fails.
        """
        # When the last pictures before a change of size come, the context already has the next
        # size. So each key frame, where sizes change, carries the one it had then.
        shown: list[tuple[int, int]] | None = [] if self._crops and packet.is_keyframe else None
        if shown is not None:
            packet.opaque = shown
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            raise
        except av.FFmpegError as error:
            if not self._on_gpu:
                raise
            short = self._shortage() if isinstance(error, MemoryError) else ""
            raise self._failed(short or f"the GPU's decoder failed ({reason_of(error)})") from None
        finally:
            if shown is not None:
                shown.append((self._context.height, self._context.width))

    def image(self, frame: VideoFrame, orientation: Orientation) -> Image:
        """Return the picture of ``frame``.

        Raises
        ------
        GpuDecoderError
            When the GPU fails.
        SourceError
            When the GPU is required and did not decode ``frame``.
        """
        # Not the context's, which has another format when the last pictures before a change come.
        on_gpu = frame.format.name == "cuda"
        if on_gpu is not self._was_on_gpu:
            self._note_change(frame, on_gpu=on_gpu)
        try:
            if on_gpu and (held := frame.sw_format) is not None:
                corner = self._corner
                if corner is None or frame.key_frame:
                    corner = self._read_corner(frame)
                return self._to_image(frame, orientation, held.name, corner)
            return self._to_image(frame, orientation, None)
        except EngineError as error:
            raise self._failed(f"the GPU's decoder failed ({error})") from None

    def close(self) -> None:
        """Count as a decoder of the GPU no more; idempotent."""
        _on_gpus.discard(self)

    def _shortage(self) -> str:
        """Return that the GPU has no memory for this decoder, and how many others fit, or ""."""
        device = self._choice.device
        needed = _PICTURES * self._context.height * self._context.width * 3 // 2
        try:
            free, total = Device(device).memory()
        except EngineError:
            return ""
        if free >= needed:
            return ""
        others = sum(each is not self and each._choice.device == device for each in _on_gpus.copy())
        return (
            f"GPU {device} is short of memory ({free / 1e6:,.0f} of {total / 1e6:,.0f} MB are "
            f"free); other streams that it decodes: {others}"
        )

    def _note_change(self, frame: VideoFrame, *, on_gpu: bool) -> None:
        """Note that ``frame`` was decoded by another than those before."""
        self._was_on_gpu, self.name = on_gpu, self._named(on_gpu=on_gpu)
        if on_gpu:
            _on_gpus.add(self)
            return
        self.close()
        codec = self._context.codec.canonical_name
        unknown = f"the GPU doesn't decode this {codec} of {frame.width}x{frame.height}"
        self._choice.give_up(self._shortage() or unknown)

    def _named(self, *, on_gpu: bool) -> str:
        return f"{self._software_name} (cuda)" if on_gpu else self._software_name

    def _read_corner(self, frame: VideoFrame) -> tuple[int, int]:
        """Return the rows and columns to crop: FFmpeg crops right and bottom only on a GPU."""
        if isinstance(frame.opaque, list):
            ((height, width),) = frame.opaque
            self._corner = max(0, frame.height - height), max(0, frame.width - width)
        return self._corner or (0, 0)

    @property
    def _on_gpu(self) -> bool:
        # Checked only if accelerated: PyAV 17 crashes on the format of video not yet probed.
        return self._accelerated and self._context.pix_fmt == "cuda"

    def _failed(self, problem: str) -> GpuDecoderError:
        self._choice.give_up(problem)
        return GpuDecoderError(problem)

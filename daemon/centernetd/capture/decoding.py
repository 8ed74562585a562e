"""Choice of decoder per stream: the GPU's if it is wanted and works, else software."""

import functools
import logging
import platform

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from centernetd.config import StreamConfig
from centernetd.cuda import Device, has_nvidia_device
from centernetd.errors import EngineError, SourceError

log = logging.getLogger(__name__)

_OLDEST = (18, 0)  # earlier PyAV loses colour tags and rotation of pictures decoded on a GPU


class GpuDecoderError(SourceError):
    """The GPU's decoder failed on a source that software may still be able to read."""


def try_gpu(device: int) -> str:
    """Open GPU ``device`` for decoding and close it; return why that failed, or ""."""
    machine, release = platform.machine(), av.__version__
    if machine != "x86_64":
        return f"PyAV's builds for {machine} decode in software only"
    if tuple(map(int, release.split(".")[:2])) < _OLDEST:
        return f"PyAV is {release}, and it needs {'.'.join(map(str, _OLDEST))}"
    if "cuda" not in hwdevices_available():
        return "this build of PyAV is without CUDA"
    try:
        Device(device)  # creates the context, so that FFmpeg shares it
        _accelerator(device).create(av.Codec("h264", "r"))
    except EngineError as error:
        return str(error)
    except (av.FFmpegError, OSError) as error:
        reason = (error.strerror or "no reason given").lower()
        return f"FFmpeg can't open NVIDIA GPU {device} ({reason})"
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


class Decoding:
    """The decoder of one stream, shared by its successive sources.

    With ``decode: auto``, a GPU decoder that failed is not tried again.
    """

    def __init__(self, stream: StreamConfig) -> None:
        self.device = stream.device
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
            self._refuse_if_demanded(problem)
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
        self._refuse_if_demanded(problem)
        if not self._gave_up:
            self._gave_up = True
            message = "decoded on the CPU from now on: %s"
            log.warning(message, problem, extra={"stream": self._stream.name})

    def _refuse_if_demanded(self, problem: str) -> None:
        if self._stream.decode == "cuda":
            raise SourceError(
                f"can't be decoded on the GPU: {problem}; set decode: auto", "open_failed"
            )

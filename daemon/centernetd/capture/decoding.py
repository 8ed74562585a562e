"""Which decoder a stream is read with: the GPU's where it is wanted and works, else software."""

import functools
import logging
import platform

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from centernetd.config.stream import Decode
from centernetd.cuda import Device, has_nvidia_device
from centernetd.errors import EngineError, SourceError

log = logging.getLogger(__name__)

_OLDEST = (18, 0)  # earlier PyAV loses colour tags and rotation of what a GPU decodes


class GpuDecoderError(SourceError):
    """The GPU's decoder failed on a source that software may still be able to read."""


def try_gpu(device: int) -> str:
    """Open and close the GPU number ``device`` for decoding; return why that fails, or nothing."""
    machine, release = platform.machine(), av.__version__
    if machine != "x86_64":
        return f"PyAV's builds for {machine} decode in software only"
    if tuple(map(int, release.split(".")[:2])) < _OLDEST:
        return f"PyAV is {release}, and it needs {'.'.join(map(str, _OLDEST))}"
    if "cuda" not in hwdevices_available():
        return "this build of PyAV is without CUDA"
    try:
        Device(device)  # sets its context up so that FFmpeg shares it
        _accelerator(device).create(av.Codec("h264", "r"))
    except EngineError as error:
        return str(error)
    except (av.FFmpegError, OSError) as error:
        reason = (error.strerror or "no reason given").lower()
        return f"FFmpeg can't open NVIDIA GPU {device} ({reason})"
    return ""


@functools.cache
def probe(device: int) -> str:
    """Return what `try_gpu` finds the first time; a GPU that comes later needs a restart."""
    problem = try_gpu(device)
    if problem and has_nvidia_device():
        log.info("video is decoded on the CPU: %s", problem)
    return problem


def _accelerator(device: int) -> HWAccel:
    # With the fallback FFmpeg itself takes software for what the GPU doesn't know: a codec, a size.
    # One CUDA context for the engine and all decoders, else each takes a few hundred MB of memory.
    return HWAccel(
        "cuda",
        str(device),
        allow_software_fallback=True,
        options={"primary_ctx": "1"},
        is_hw_owned=True,
    )


class Decoding:
    """What the sources of one stream are decoded with, one after another.

    ``wanted`` is ``auto``, ``cuda`` or ``cpu``, ``device`` the number of the GPU. With ``auto``
    a decoder that failed once is not tried again.
    """

    def __init__(self, wanted: Decode = "cpu", device: int = 0, stream: str = "") -> None:
        self._wanted = wanted
        self.device = device
        self._stream = stream
        self._gave_up = wanted == "cpu"

    def accelerator(self) -> HWAccel | None:
        """Return what the next source is to be opened with; None is software.

        Raises
        ------
        SourceError
            When the GPU is demanded and can't be had.
        """
        if self._gave_up:
            return None
        problem = probe(self.device)
        if problem:
            self._refuse_if_demanded(problem)
            return None
        return _accelerator(self.device)

    def open_failed(self) -> bool:
        """Return whether it was for the GPU that a source couldn't be opened, and give it up then.

        Raises
        ------
        SourceError
            When it was, and the GPU is demanded.
        """
        problem = try_gpu(self.device)
        if problem:
            self.give_up(problem)
        return bool(problem)

    def give_up(self, problem: str) -> None:
        """Take software from now on, because of ``problem``.

        Raises
        ------
        SourceError
            When the GPU is demanded.
        """
        self._refuse_if_demanded(problem)
        if not self._gave_up:
            self._gave_up = True
            message = "decoded on the CPU from now on: %s"
            log.warning(message, problem, extra={"stream": self._stream or None})

    def _refuse_if_demanded(self, problem: str) -> None:
        if self._wanted == "cuda":
            raise SourceError(
                f"can't be decoded on the GPU: {problem}; set decode: auto", "open_failed"
            )

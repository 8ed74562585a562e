"""Which decoder a stream is read with: the GPU's where it is wanted and works, else software."""

import functools
import logging
import platform
from collections.abc import Mapping
from typing import NamedTuple

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from daemon.config.stream import Decode
from daemon.errors import SourceError

log = logging.getLogger(__name__)

_OLDEST = (18, 0)  # earlier PyAV loses colour tags and rotation of what it fetches from a GPU
# One CUDA context for all decoders and the engine, else each decoder takes a few hundred MB of the
# GPU's memory; then one of its own, for an engine that has set the shared one up otherwise.
_CONTEXTS: tuple[Mapping[str, str], ...] = ({"primary_ctx": "1"}, {})


class GpuDecoderError(SourceError):
    """The GPU's decoder failed on a source that software may still be able to read."""


class Probe(NamedTuple):
    """What came of asking a GPU for a decoder: how it is to be opened, or why it can't be."""

    options: Mapping[str, str] | None
    problem: str


def try_gpu(device: int) -> Probe:
    """Open and close the GPU number ``device`` for decoding."""
    machine, release = platform.machine(), av.__version__
    if machine != "x86_64":
        return Probe(None, f"PyAV's builds for {machine} decode in software only")
    if tuple(map(int, release.split(".")[:2])) < _OLDEST:
        return Probe(None, f"PyAV is {release}, and it needs {'.'.join(map(str, _OLDEST))}")
    if "cuda" not in hwdevices_available():
        return Probe(None, "this build of PyAV is without CUDA")
    refusals = [_refusal(device, options) for options in _CONTEXTS]
    for options, refusal in zip(_CONTEXTS, refusals, strict=True):
        if not refusal:
            return Probe(options, "")
    return Probe(None, f"FFmpeg can't open NVIDIA GPU {device} ({refusals[-1]})")


def _refusal(device: int, options: Mapping[str, str]) -> str:
    """Return what FFmpeg says against decoding on ``device``; nothing where it can."""
    try:
        _accelerator(device, options).create(av.Codec("h264", "r"))
    except (av.FFmpegError, OSError) as error:
        return (error.strerror or "no reason given").lower()
    return ""


@functools.cache
def probe(device: int) -> Probe:
    """Return what `try_gpu` finds the first time; a GPU that comes later needs a restart."""
    found = try_gpu(device)
    if found.problem:
        log.info("video is decoded on the CPU: %s", found.problem)
    return found


def _accelerator(device: int, options: Mapping[str, str]) -> HWAccel:
    # With the fallback FFmpeg itself takes software for what the GPU doesn't know: a codec, a size.
    return HWAccel("cuda", str(device), allow_software_fallback=True, options=dict(options))


class Decoding:
    """What the sources of one stream are decoded with, one after another.

    ``wanted`` is ``auto``, ``cuda`` or ``cpu``, ``device`` the number of the GPU. With ``auto``
    a decoder that failed once is not tried again.
    """

    def __init__(self, wanted: Decode = "cpu", device: int = 0, stream: str = "") -> None:
        self._wanted = wanted
        self._device = device
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
        options, problem = probe(self._device)
        if options is None:
            self._refuse_if_demanded(problem)
            return None
        return _accelerator(self._device, options)

    def open_failed(self) -> bool:
        """Return whether it was for the GPU that a source couldn't be opened, and give it up then.

        Raises
        ------
        SourceError
            When it was, and the GPU is demanded.
        """
        problem = try_gpu(self._device).problem
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

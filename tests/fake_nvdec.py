"""A strict double of decoding on an NVIDIA GPU through PyAV, over PyAV's software decoders.

As FFmpeg's, it leaves its frames in the memory of the (simulated) GPU, with interleaved chroma
planes and without cropping their left and top, names its pixel format ``cuda`` for as long as it
decodes itself, and takes software for what it doesn't know or has no memory for. A picture's memory
is overwritten when nobody holds the picture any more.
"""

import functools
import platform
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from centernetd.capture import decoding
from tests import fake_cuda
from tests.fake_cuda import FakeCuda
from tests.simulated_gpu import OUT_OF_MEMORY, SUCCESS

OWN_PICTURES = 20  # for which a decoder has memory
PITCH = 256  # rows on a GPU begin at multiples of it, or of a multiple of it


class FakeNvdec:
    """The GPU; ``cuda`` is its memory, ``sources`` are those opened to use it.

    ``opens`` is whether FFmpeg can open it, ``decodes`` whether it knows the video, and with
    ``fail_at`` the packet of that number (from 0, all sources counted) breaks it. ``cropped`` has
    the rows and columns that pictures of a height and width are without at their top and left.
    """

    def __init__(self, *, opens: bool = True, decodes: bool = True) -> None:
        self.cuda = FakeCuda(devices=1)
        self.opens = opens
        self.decodes = decodes
        self.fail_at: int | None = None
        self.opened = 0
        self.sources: list[bool] = []
        self.packets = 0
        self.cropped: dict[tuple[int, int], tuple[int, int]] = {}


@contextmanager
def installed(gpu: FakeNvdec) -> Iterator[FakeNvdec]:
    """Put it in the place of the real one, with an empty memory of what was probed."""
    really_open: Any = av.open

    def open_(url: str, mode: str = "r", *, hwaccel: "_Accel | None" = None, **options: Any) -> Any:
        container = really_open(url, mode, **options)
        if mode == "r":
            gpu.sources.append(hwaccel is not None)
        if hwaccel is None:
            return container
        hwaccel.create(av.Codec("h264", "r"))
        return _Container(gpu, container)

    with fake_cuda.installed(gpu.cuda), pytest.MonkeyPatch.context() as patch:
        patch.setattr(av, "open", open_)
        patch.setattr(decoding, "HWAccel", lambda *args, **kw: _Accel(gpu, *args, **kw))
        patch.setattr(decoding, "hwdevices_available", lambda: ["vaapi", "cuda"])
        patch.setattr(platform, "machine", lambda: "x86_64")
        patch.setattr(av, "__version__", "18.1.0")
        patch.setattr(decoding, "probe", functools.cache(decoding.probe.__wrapped__))
        yield gpu


class _Accel:
    def __init__(
        self,
        gpu: FakeNvdec,
        kind: str,
        device: str,
        *,
        allow_software_fallback: bool,
        options: dict[str, str],
        is_hw_owned: bool,
    ) -> None:
        assert (kind, allow_software_fallback, is_hw_owned) == ("cuda", True, True)
        assert options == {"primary_ctx": "1"}, "a CUDA context of its own"
        assert device.isdecimal(), "FFmpeg takes the number of a GPU as a text"
        self._gpu, self._device = gpu, int(device)

    def create(self, codec: av.Codec) -> "_Accel":
        assert not codec.is_encoder
        flags = self._gpu.cuda.device_flags.get(self._device)
        shared = flags == self._gpu.cuda.cudaDeviceScheduleBlockingSync
        if not (self._gpu.opens and shared):
            raise av.error.PermissionError(1, "Operation not permitted")
        self._gpu.opened += 1
        return self


class _Proxy:
    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Context(_Proxy):
    on_gpu = True
    fits: bool | None = None  # there was memory for the decoder; None: it is not yet made

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"_real", "on_gpu", "fits"}:
            super().__setattr__(name, value)
        else:
            setattr(self._real, name, value)

    @property
    def pix_fmt(self) -> str:
        return "cuda" if self.on_gpu else str(self._real.pix_fmt)

    @property
    def sw_format(self) -> SimpleNamespace | None:
        raise AssertionError("the format of the next picture, which may not be that of the last")


class _Stream(_Proxy):
    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.codec_context = _Context(real.codec_context)


class _Container(_Proxy):
    def __init__(self, gpu: FakeNvdec, real: Any) -> None:
        super().__init__(real)
        self._gpu = gpu
        self.closed = False
        self.streams = SimpleNamespace(
            video=[_Stream(each) for each in real.streams.video], audio=real.streams.audio
        )

    def demux(self) -> "Iterator[_Packet]":
        for packet in self._real.demux():
            assert not self.closed, "read after close"
            stream = next(each for each in self.streams.video if each._real is packet.stream)
            yield _Packet(self._gpu, stream, packet)

    def close(self) -> None:
        self.closed = True
        self._real.close()


class _Packet(_Proxy):
    def __init__(self, gpu: FakeNvdec, stream: _Stream, real: Any) -> None:
        super().__init__(real)
        self._gpu, self._context, self.stream = gpu, stream.codec_context, stream

    def __bytes__(self) -> bytes:
        return bytes(self._real)

    @property
    def opaque(self) -> Any:
        return self._real.opaque

    @opaque.setter
    def opaque(self, value: Any) -> None:
        assert self._context.flags & Flags.copy_opaque, "it would not reach the picture"
        self._real.opaque = value

    def decode(self) -> "list[VideoFrame] | list[_Frame]":
        frames: list[VideoFrame] = self._real.decode()
        number, self._gpu.packets = self._gpu.packets, self._gpu.packets + 1
        if number == self._gpu.fail_at or self._gpu.cuda.lost:
            raise av.error.ExternalError(542398533, "Generic error in an external library")
        if self._context.fits is None:
            _, free, _ = self._gpu.cuda.cudaMemGetInfo()
            needed = self._context.height * self._context.width * 3 // 2 * OWN_PICTURES
            self._context.fits = free >= needed
        self._context.on_gpu = self._gpu.decodes and self._context.fits
        if not self._context.on_gpu:
            return frames
        return [_Frame(self._gpu, frame) for frame in frames]


class _Frame(_Proxy):
    """What is known of ``frame``, and its pixels on the GPU, which nobody can look at here."""

    format = SimpleNamespace(name="cuda")

    def __init__(self, gpu: FakeNvdec, frame: VideoFrame) -> None:
        super().__init__(frame)
        wide = frame.format.name == "yuv420p10le"
        self.sw_format = SimpleNamespace(name="p010le" if wide else "nv12")
        top, left = gpu.cropped.get((frame.height, frame.width), (0, 0))
        self.height, self.width = frame.height + top, frame.width + left
        interleaved = VideoReformatter().reformat(frame, format=self.sw_format.name)
        luma, chroma = interleaved.planes
        across = left * (1 + wide)
        self.planes = [
            _Plane(gpu.cuda, luma, top, across),
            _Plane(gpu.cuda, chroma, top // 2, across),
        ]


class _Plane:
    """A plane after ``top`` lines and ``across`` bytes that are not of the picture."""

    def __init__(self, cuda: FakeCuda, plane: VideoPlane, top: int, across: int) -> None:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        height = top + plane.height
        self.line_size = -(-(across + plane.line_size) // PITCH) * PITCH
        status, self.buffer_ptr = cuda.cudaMalloc(height * self.line_size)
        if status != SUCCESS:
            assert status == OUT_OF_MEMORY
            raise av.error.MemoryError(12, "Cannot allocate memory")
        there = cuda.device_view(self.buffer_ptr, height * self.line_size)
        lines, rows = there.reshape(height, self.line_size), rows.copy()

        def copy() -> None:
            lines[:] = 0xEB
            lines[top:, across : across + rows.shape[1]] = rows

        cuda.decode(copy, 1e-5)
        weakref.finalize(self, cuda.reclaim, self.buffer_ptr).atexit = False

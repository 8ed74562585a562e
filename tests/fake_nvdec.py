"""A strict double of decoding on an NVIDIA GPU through PyAV, over PyAV's software decoders.

As FFmpeg's, it gives frames whose chroma planes are interleaved, names its pixel format ``cuda``
for as long as it decodes itself, and takes software for what it doesn't know.
"""

import functools
import platform
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from daemon.capture import decoding

SHARED: Mapping[str, str] = {"primary_ctx": "1"}
OWN: Mapping[str, str] = {}


class FakeNvdec:
    """The GPU; ``opened`` keeps the options with which it was opened, ``sources`` what with.

    ``contexts`` are the kinds of CUDA context it grants, ``decodes`` whether it knows the video,
    and with ``fail_at`` the packet of that number (from 0, all sources counted) breaks it.
    """

    def __init__(self, *contexts: Mapping[str, str], decodes: bool = True) -> None:
        self.contexts = list(contexts)
        self.decodes = decodes
        self.fail_at: int | None = None
        self.opened: list[Mapping[str, str]] = []
        self.sources: list[bool] = []
        self.packets = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "FakeNvdec":
        """Put it in the place of the real one, with an empty memory of what was probed."""
        really_open: Any = av.open

        def open_(
            url: str, mode: str = "r", *, hwaccel: "_Accel | None" = None, **options: Any
        ) -> Any:
            container = really_open(url, mode, **options)
            if mode == "r":
                self.sources.append(hwaccel is not None)
            if hwaccel is None:
                return container
            hwaccel.create(av.Codec("h264", "r"))
            return _Container(self, container)

        monkeypatch.setattr(av, "open", open_)
        monkeypatch.setattr(decoding, "HWAccel", lambda *args, **kw: _Accel(self, *args, **kw))
        monkeypatch.setattr(decoding, "hwdevices_available", lambda: ["vaapi", "cuda"])
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(av, "__version__", "18.1.0")
        monkeypatch.setattr(decoding, "probe", functools.cache(decoding.probe.__wrapped__))
        return self


class _Accel:
    def __init__(
        self,
        gpu: FakeNvdec,
        kind: str,
        device: str,
        *,
        allow_software_fallback: bool,
        options: dict[str, str],
    ) -> None:
        assert (kind, allow_software_fallback) == ("cuda", True)
        assert device.isdecimal(), "FFmpeg takes the number of a GPU as a text"
        self._gpu, self._device, self._options = gpu, int(device), options

    def create(self, codec: av.Codec) -> "_Accel":
        assert not codec.is_encoder
        if self._device > 0 or self._options not in self._gpu.contexts:
            raise av.error.PermissionError(1, "Operation not permitted")
        self._gpu.opened.append(self._options)
        return self


class _Proxy:
    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Context(_Proxy):
    on_gpu = True

    @property
    def pix_fmt(self) -> str:
        return "cuda" if self.on_gpu else str(self._real.pix_fmt)


class _Stream(_Proxy):
    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.codec_context = _Context(real.codec_context)


class _Container(_Proxy):
    def __init__(self, gpu: FakeNvdec, real: Any) -> None:
        super().__init__(real)
        self._gpu = gpu
        self.closed = False
        self.streams = SimpleNamespace(video=[_Stream(each) for each in real.streams.video])

    def demux(self, stream: _Stream) -> "Iterator[_Packet]":
        for packet in self._real.demux(stream._real):
            assert not self.closed, "read after close"
            yield _Packet(self._gpu, stream.codec_context, packet)

    def close(self) -> None:
        self.closed = True
        self._real.close()


class _Packet(_Proxy):
    def __init__(self, gpu: FakeNvdec, context: _Context, real: Any) -> None:
        super().__init__(real)
        self._gpu, self._context = gpu, context

    def decode(self) -> list[VideoFrame]:
        frames: list[VideoFrame] = self._real.decode()
        number, self._gpu.packets = self._gpu.packets, self._gpu.packets + 1
        if number == self._gpu.fail_at:
            raise av.error.ExternalError(542398533, "Generic error in an external library")
        self._context.on_gpu = self._gpu.decodes
        if not self._gpu.decodes:
            return frames
        return [VideoReformatter().reformat(frame, format="nv12") for frame in frames]

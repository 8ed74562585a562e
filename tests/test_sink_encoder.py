"""The encoder: colours, sizes, key frames, and how it is chosen."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.config import RecordConfig
from centernetd.sink import encoder as encoder_module
from centernetd.sink.encoder import Encoder, EncoderError, choose_encoder
from centernetd.sink.muxer import FragmentedMp4
from tests.sinks import MILLISECOND, decode, picture, recorder_of, result, sink_context


def encode(
    images: list[NDArray[np.uint8]], step: int = 40, time_base: Fraction = MILLISECOND
) -> bytes:
    """Encode pictures at equal steps, checking that none is held back."""
    height, width = images[0].shape[:2]
    encoder = Encoder("libx264", width, height, time_base)
    packets = []
    for number, image in enumerate(images):
        (packet,) = encoder.encode(image, number * step)
        assert packet.dts == packet.pts == number * step
        packets.append(packet)
    assert not encoder.flush()
    with TemporaryDirectory() as folder:
        file = FragmentedMp4(Path(folder) / "x.mp4", packets[0])
        for packet in packets:
            file.write(packet)
        file.close()
        return file.path.read_bytes()


@pytest.mark.parametrize(
    "bgr", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (30, 200, 90)]
)
def test_colours_are_bt709_in_limited_range_and_tagged_so(bgr: tuple[int, int, int]) -> None:
    (frame,) = decode(encode([np.full((64, 64, 3), bgr, np.uint8)]))
    planes = [np.frombuffer(bytes(plane), np.uint8)[0] for plane in frame.planes]
    blue, green, red = (value / 255 for value in bgr)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # ITU-R BT.709
    chroma = [(blue - luma) / 1.8556, (red - luma) / 1.5748]
    expected = [16 + 219 * luma, *(128 + 224 * value for value in chroma)]
    assert planes == pytest.approx(expected, abs=2)
    assert (frame.colorspace, frame.color_range) == (1, 1)
    with av.open(BytesIO(encode([picture()]))) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (3, 2), (17, 1023), (48, 64)])
def test_odd_sizes_are_padded_by_repeating_the_edge(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 40, np.uint8)
    image[-1:, -1:] = 220
    (frame,) = decode(encode([image]))
    height, width = (side + side % 2 for side in shape)
    assert (frame.height, frame.width) == (height, width)
    grey = frame.to_ndarray(format="gray")
    assert grey[height - 1, width - 1] > 150


def test_rows_may_be_padded() -> None:
    memory = np.zeros((48, 80, 3), np.uint8)
    memory[:, :64] = 255
    (frame,) = decode(encode([memory[:, :64]]))
    assert frame.to_ndarray(format="gray").min() > 200


@pytest.mark.parametrize(
    ("step", "time_base", "every"),
    [
        (40, MILLISECOND, 25),
        (999, MILLISECOND, 2),
        (1500, MILLISECOND, 1),
        (1, Fraction(1001, 30000), 30),
    ],
)
def test_a_key_frame_begins_every_second(step: int, time_base: Fraction, every: int) -> None:
    data = encode([picture()] * 65, step, time_base)
    with av.open(BytesIO(data), "r") as container:
        keys = [number for number, packet in enumerate(container.demux()) if packet.is_keyframe]
    assert keys == list(range(0, 65, every))


def test_x264_is_chosen_without_an_nvidia_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "has_nvidia_device", lambda: False)
    monkeypatch.setattr(encoder_module, "try_encoder", lambda *_: pytest.fail("probed"))
    assert choose_encoder("auto", 1280, 720) == "libx264"


def test_x264_is_chosen_where_nvenc_does_not_encode(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encoder_module, "has_nvidia_device", lambda: True)
    with caplog.at_level("INFO"):
        assert choose_encoder("auto", 1, 1) == "libx264"  # no encoding GPU takes so small a one
    (line,) = caplog.messages
    assert line.startswith("1x1: h264_nvenc can't encode: ")
    assert "avcodec" not in line


class FakeNvenc:
    """NVIDIA's encoder as FFmpeg opens it: refuses small pictures and too many sessions.

    What it encodes, x264 does. The least size is that of NVENC for H.264.
    """

    LEAST = (145, 49)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sessions: int = 8) -> None:
        self._really = encoder_module._open
        monkeypatch.setattr(encoder_module, "has_nvidia_device", lambda: True)
        monkeypatch.setattr(encoder_module, "_open", self._open)
        self.opened = 0
        self.devices: list[int] = []
        self._sessions = sessions

    def _open(
        self,
        name: str,
        width: int,
        height: int,
        time_base: Fraction,
        aspect: Fraction,
        device: int,
    ) -> av.VideoCodecContext:
        self.devices.append(device)
        if name == "h264_nvenc":
            if width < self.LEAST[0] or height < self.LEAST[1]:
                raise av.error.ArgumentError(22, "Invalid argument")
            if self.opened >= self._sessions:
                raise av.error.MemoryError(12, "Cannot allocate memory")
            self.opened += 1
            name = "libx264"
        return self._really(name, width, height, time_base, aspect, device)


@pytest.mark.parametrize(
    ("size", "sessions", "expected"),
    [
        ((640, 360), 1, "h264_nvenc"),
        ((144, 96), 1, "libx264"),
        ((640, 48), 1, "libx264"),
        ((640, 360), 0, "libx264"),
    ],
)
def test_nvenc_is_chosen_where_it_encodes_a_picture_of_this_size_now(
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    sessions: int,
    expected: str,
) -> None:
    FakeNvenc(monkeypatch, sessions)
    assert choose_encoder("auto", *size) == expected


def test_the_gpu_that_is_configured_encodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = FakeNvenc(monkeypatch)
    config = RecordConfig(path="gate.mp4", segment=None)
    recorder = recorder_of(sink_context(tmp_path, record=config, device=3))
    recorder.write(result(0, picture(96, 160)))
    recorder.close()
    assert gpu.devices == [3, 3], "when it was tried, and for the recording"
    assert encoder_module._options("h264_nvenc", 3)["gpu"] == "3"
    assert "gpu" not in encoder_module._options("libx264", 3)


def test_a_named_encoder_is_not_second_guessed() -> None:
    assert choose_encoder("hevc_nvenc", 64, 48) == "hevc_nvenc"


@pytest.mark.parametrize(
    ("name", "side", "why"),
    [
        ("nonsense", 64, "PyAV's FFmpeg does not have this encoder"),
        ("mp2", 64, "it is not a video encoder"),
        ("libx264", 20_000, "invalid argument"),
        ("h264_nvenc", 64, "there is no NVIDIA GPU"),
        ("hevc_nvenc", 64, "there is no NVIDIA GPU"),
    ],
)
def test_an_encoder_that_does_not_open_is_explained_without_its_options(
    monkeypatch: pytest.MonkeyPatch, name: str, side: int, why: str
) -> None:
    monkeypatch.setattr(encoder_module, "has_nvidia_device", lambda: False)
    with pytest.raises(EncoderError) as refused:
        Encoder(name, side, side, MILLISECOND)
    assert str(refused.value) == f"{name} can't encode: {why}"

"""What decodes a stream: the GPU where it is wanted and works, else software, and why."""

import logging
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from centernetd.capture import decoding
from centernetd.capture.decoding import DecoderChoice, GpuDecoderError, try_gpu
from centernetd.capture.open import open_stream
from centernetd.capture.source import Source
from centernetd.capture.video import open_video
from centernetd.config.sections import Decode
from centernetd.cuda import Surface
from centernetd.errors import SourceError
from centernetd.flow import HostImage, Image
from tests import clips
from tests.capture_rig import stream
from tests.fake_nvdec import FakeNvdec, installed
from tests.integration.conftest import DEMO

FRAMES = 20


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clips.count(tmp_path / "clip.mp4", FRAMES)


@pytest.fixture
def gpu() -> Iterator[FakeNvdec]:
    with installed(FakeNvdec()) as gpu:
        yield gpu


def numbers(source: Source) -> list[int]:
    try:
        return [clips.number_of(picture.image.pixels()) for picture in source]
    finally:
        source.close()


def test_pictures_of_the_gpu_equal_those_of_the_cpu(gpu: FakeNvdec) -> None:
    sources = [open_stream(stream(DEMO, decode=wanted)) for wanted in ("auto", "cpu")]
    compared = 0
    for (own, software), _ in zip(zip(*sources, strict=True), range(5), strict=False):
        assert np.array_equal(own.image.pixels(), software.image.pixels())
        assert (own.pts, own.time_base) == (software.pts, software.time_base)
        compared += 1
    assert compared == 5
    assert [source.info.decoder for source in sources] == ["h264 (cuda)", "h264"]
    assert [source.info.codec for source in sources] == ["h264", "h264"]
    for source in sources:
        source.close()


def test_a_gpu_that_is_not_wanted_is_not_opened(gpu: FakeNvdec, clip: Path) -> None:
    assert numbers(open_stream(stream(clip, decode="cpu"))) == list(range(FRAMES))
    assert gpu.opened == 0


@pytest.mark.parametrize("present", [True, False])
def test_a_process_asks_once_and_logs_once_why_not(
    present: bool,
    gpu: FakeNvdec,
    monkeypatch: pytest.MonkeyPatch,
    clip: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(decoding, "has_nvidia_device", lambda: present)
    gpu.opens = False
    tries = []

    def counted(device: int) -> str:
        tries.append(device)
        return try_gpu(device)

    monkeypatch.setattr(decoding, "try_gpu", counted)
    for _ in ("gate", "yard"):
        assert numbers(open_stream(stream(clip, decode="auto"))) == list(range(FRAMES))
    assert tries == [0]
    why = "video is decoded on the CPU: FFmpeg can't open NVIDIA GPU 0 (operation not permitted)"
    assert [record.getMessage() for record in caplog.records] == [why] * present


def test_a_gpu_that_is_demanded_and_missing(gpu: FakeNvdec, clip: Path) -> None:
    gpu.opens = False
    with pytest.raises(SourceError) as raised:
        open_stream(stream(clip, decode="cuda"))
    assert str(raised.value) == (
        "can't be decoded on the GPU: FFmpeg can't open NVIDIA GPU 0 (operation not permitted); "
        "set decode: auto"
    )
    assert raised.value.reason == "open_failed"


def test_the_gpu_that_is_named_is_taken(gpu: FakeNvdec, clip: Path) -> None:
    with pytest.raises(SourceError, match="there is no GPU 1"):
        open_stream(stream(clip, decode="cuda", device=1))


@pytest.mark.parametrize(
    ("machine", "release", "devices", "why"),
    [
        ("aarch64", "18.1.0", ["cuda"], "PyAV's builds for aarch64 decode in software only"),
        ("x86_64", "17.1.0", ["cuda"], "PyAV is 17.1.0, which is older than 18.0"),
        ("x86_64", "18.0.0", ["vaapi"], "this build of PyAV does not support CUDA"),
    ],
)
def test_what_can_not_decode_on_a_gpu(
    gpu: FakeNvdec,
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    release: str,
    devices: list[str],
    why: str,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(av, "__version__", release)
    monkeypatch.setattr(decoding, "hwdevices_available", lambda: devices)
    assert decoding.probe(0) == why
    assert gpu.opened == 0


def test_a_video_that_the_gpu_does_not_know_is_left_to_software(
    gpu: FakeNvdec, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.decodes = False
    chosen = DecoderChoice(stream(clip, decode="auto"))
    source = open_stream(stream(clip), chosen)
    assert numbers(source) == list(range(FRAMES))
    assert source.info.decoder == "h264"
    assert numbers(open_stream(stream(clip), chosen)) == list(range(FRAMES))
    assert gpu.sources == [True, False], "it was tried again"
    (record,) = caplog.records
    assert getattr(record, "stream", None) == "cam"
    why = "the GPU doesn't decode this h264 of 64x48"
    assert record.getMessage() == f"decoded on the CPU from now on: {why}"
    with pytest.raises(SourceError, match=f"{why}; set decode: auto"):
        numbers(open_stream(stream(clip, decode="cuda")))


def test_a_gpu_that_fails_in_the_middle_of_a_file_costs_no_picture(
    gpu: FakeNvdec, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fail_at = 12
    source = open_stream(stream(clip, decode="auto"))
    assert numbers(source) == list(range(FRAMES))
    assert source.info.decoder == "h264"
    assert gpu.sources == [True, False]
    assert "the GPU's decoder failed (generic error in an external library)" in caplog.text


def test_a_picture_that_can_not_be_fetched_is_decoded_by_software(
    gpu: FakeNvdec, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.cuda.fail("cudaMemcpy2D", 2 * 7, 999)  # a picture has two planes
    source = open_stream(stream(clip, decode="auto"))
    assert numbers(source) == list(range(FRAMES))
    assert source.info.decoder == "h264"
    assert "the GPU's decoder failed (cudaMemcpy2D failed: cudaErrorUnknown (999)" in caplog.text


def test_what_was_fetched_is_given_back(gpu: FakeNvdec, clip: Path) -> None:
    assert numbers(open_stream(stream(clip, decode="cuda"))) == list(range(FRAMES))
    assert gpu.cuda.count()["cudaMemcpy2D"] == 2 * FRAMES
    assert not any(gpu.cuda.live().values())


@pytest.mark.parametrize(("wanted", "then"), [("auto", False), ("cuda", True)])
def test_a_gpu_that_fails_in_the_middle_of_a_stream_ends_the_connection(
    gpu: FakeNvdec, clip: Path, wanted: Decode, then: bool
) -> None:
    gpu.fail_at = 12
    chosen = DecoderChoice(stream(clip, decode=wanted))
    with pytest.raises(SourceError, match="the GPU's decoder failed"):
        numbers(open_video(stream(clip), chosen))
    assert numbers(open_video(stream(clip), chosen)) == list(range(FRAMES))
    assert gpu.sources == [True, then]


def test_a_gpu_that_is_gone_when_a_source_is_opened(gpu: FakeNvdec, clip: Path) -> None:
    chosen = DecoderChoice(stream(clip, decode="auto"))
    assert numbers(open_stream(stream(clip), chosen)) == list(range(FRAMES))
    gpu.opens = False
    with pytest.raises(GpuDecoderError):
        open_video(stream(clip), chosen)
    assert numbers(open_video(stream(clip), chosen)) == list(range(FRAMES))
    assert numbers(open_stream(stream(clip, decode="auto"))) == list(range(FRAMES))
    assert gpu.sources == [True, True, False, True, False]


def test_a_source_that_is_missing_is_not_the_fault_of_the_gpu(
    gpu: FakeNvdec, clip: Path, tmp_path: Path
) -> None:
    chosen = DecoderChoice(stream(clip, decode="auto"))
    for _ in range(2):
        with pytest.raises(SourceError, match="no such file"):
            open_stream(stream(tmp_path / "missing.mp4"), chosen)
    assert numbers(open_stream(stream(clip), chosen)) == list(range(FRAMES))
    assert gpu.sources[-1]


SURFACE = 256 * 48 + 256 * 24  # bytes of a picture of the clip


def kept(source: Source) -> list[Image]:
    try:
        return [picture.image for picture in source]
    finally:
        source.close()


def test_a_gpu_without_memory_for_another_decoder(
    gpu: FakeNvdec, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = DecoderChoice(stream(clip, decode="cuda"), surfaces=True)
    opened = open_stream(stream(clip), first)
    held = [picture.image for picture, _ in zip(opened, range(10), strict=False)]
    gpu.cuda.memory = 11 * SURFACE
    config = replace(stream(clip, decode="auto"), name="yard")
    images = kept(open_stream(config, DecoderChoice(config, surfaces=True)))
    assert [clips.number_of(image.pixels()) for image in images] == list(range(FRAMES))
    assert {type(image) for image in images} == {HostImage}
    (record,) = caplog.records
    assert getattr(record, "stream", None) == "yard"
    assert record.getMessage() == (
        "decoded on the CPU from now on: GPU 0 is short of memory (0 of 0 MB are free); other "
        "streams that it decodes: 1"
    )
    with pytest.raises(SourceError, match="that it decodes: 1; set decode: auto"):
        kept(open_stream(stream(clip, decode="cuda")))
    assert {type(image) for image in held} == {Surface}
    opened.close()
    with pytest.raises(SourceError, match="that it decodes: 0;"):
        kept(open_stream(stream(clip, decode="cuda")))


def test_a_gpu_whose_memory_runs_out_midway(
    gpu: FakeNvdec, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.cuda.memory = 8 * SURFACE
    config = stream(clip, decode="auto")
    images = kept(open_stream(config, DecoderChoice(config, surfaces=True)))
    assert [clips.number_of(image.pixels()) for image in images] == list(range(FRAMES))
    assert [type(image) for image in images] == [Surface] * 8 + [HostImage] * (FRAMES - 8)
    assert "from now on: GPU 0 is short of memory (0 of 0 MB are free)" in caplog.text
    with pytest.raises(SourceError, match="GPU 0 is short of memory"):
        kept(open_stream(stream(clip), DecoderChoice(stream(clip, decode="cuda"), surfaces=True)))

"""Video of which the parameter sets crop the picture: at the left and top too, and midway."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.capture.decoding import DecoderChoice
from centernetd.capture.open import open_stream
from centernetd.config.sections import Decode
from centernetd.cuda import Surface
from centernetd.flow import HostImage, Image
from tests import clips, fake_nvdec
from tests.capture_rig import stream
from tests.fake_nvdec import FakeNvdec
from tests.surfaces import run

SIZE = (192, 256)
CROPS = [(4, 10, 6, 8), (16, 0, 0, 0), (0, 66, 0, 0), (0, 0, 12, 20)]


@pytest.fixture
def gpu() -> Iterator[FakeNvdec]:
    with fake_nvdec.installed(FakeNvdec()) as gpu:
        yield gpu


def decoded(path: Path, decode: Decode, *, surfaces: bool = False) -> list[Image]:
    config = stream(path, decode=decode)
    source = open_stream(config, DecoderChoice(config, surfaces=surfaces))
    try:
        return [picture.image for picture in source]
    finally:
        source.close()


def shown(size: tuple[int, int], crop: clips.Crop) -> tuple[int, int]:
    top, left, bottom, right = crop
    return size[0] - top - bottom, size[1] - left - right


def inside(pixels: NDArray[np.uint8], crop: clips.Crop) -> NDArray[np.uint8]:
    top, left, bottom, right = crop
    return pixels[top : len(pixels) - bottom, left : pixels.shape[1] - right]


def row_of(image: Image) -> NDArray[np.uint8]:
    """Return a batch of one, of the size of ``image``."""
    assert isinstance(image, Surface)
    return run([image], [0], 1, image.size)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_software_crops_to_the_pixel(codec: str, crop: clips.Crop, tmp_path: Path) -> None:
    whole = clips.blocks(tmp_path / f"whole.{codec}", SIZE)
    cropped = clips.cropped(tmp_path / f"cropped.{codec}", whole, crop)
    pictures = decoded(cropped, "cpu")
    assert len(pictures) > 1
    for picture, uncropped in zip(pictures, decoded(whole, "cpu"), strict=True):
        assert np.array_equal(picture.pixels(), inside(uncropped.pixels(), crop))


@pytest.mark.parametrize("crop", CROPS)
def test_the_gpus_pixels_are_those_of_software(
    gpu: FakeNvdec, crop: clips.Crop, tmp_path: Path
) -> None:
    path = clips.cropped(tmp_path / "c.h264", clips.blocks(tmp_path / "w.h264", SIZE), crop)
    software = decoded(path, "cpu")
    gpu.cropped[software[0].size] = crop[:2]
    for surfaces, kind in ((False, HostImage), (True, Surface)):
        for mine, theirs in zip(decoded(path, "cuda", surfaces=surfaces), software, strict=True):
            assert isinstance(mine, kind)
            assert mine.size == theirs.size
            assert np.array_equal(mine.pixels(), theirs.pixels())


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_the_network_gets_what_the_uncropped_video_shows_there(
    gpu: FakeNvdec, pix_fmt: str, crop: clips.Crop, tmp_path: Path
) -> None:
    whole = clips.blocks(tmp_path / "whole.hevc", SIZE, pix_fmt=pix_fmt)
    cropped = clips.cropped(tmp_path / "cropped.hevc", whole, crop)
    gpu.cropped[shown(SIZE, crop)] = crop[:2]
    images = decoded(cropped, "cuda", surfaces=True), decoded(whole, "cuda", surfaces=True)
    assert len(images[0]) > 1
    for own, uncropped in zip(*images, strict=True):
        (row,), (all_of_it,) = row_of(own), row_of(uncropped)
        assert np.array_equal(row, inside(all_of_it, crop))


def test_what_is_cropped_may_change_midway(gpu: FakeNvdec, tmp_path: Path) -> None:
    """Pictures are predicted from later ones, so the decoder is ahead of what it has shown."""
    crops = [(0, 0, 0, 0), (4, 10, 6, 8), (0, 66, 0, 0), (8, 0, 0, 0)]
    parts = []
    for number, (crop, size) in enumerate(
        zip(crops, [SIZE, SIZE, (128, 160), (256, 320)], strict=True)
    ):
        whole = clips.blocks(tmp_path / "whole.h264", size)
        parts.append(clips.cropped(tmp_path / f"{number}.h264", whole, crop))
        gpu.cropped[shown(size, crop)] = crop[:2]
    path = clips.joined(tmp_path / "joined.h264", *parts)
    software, on_gpu = decoded(path, "cpu"), decoded(path, "cuda", surfaces=True)
    assert len({image.size for image in software}) == len(crops)
    for surface, theirs in zip(on_gpu, software, strict=True):
        assert surface.size == theirs.size
        assert np.array_equal(surface.pixels(), theirs.pixels())

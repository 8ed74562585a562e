"""Pictures that stay on a real GPU: the kernel against its definition, and against the CPU."""

from pathlib import Path

import numpy as np
import pytest

from centernetd.capture.decoding import DecoderChoice
from centernetd.capture.open import open_stream
from centernetd.cuda import Device, Surface
from centernetd.inference.letterbox import fill_row, letterbox_geometry
from tests import clips
from tests.capture_rig import stream
from tests.gpu.probe import on_gpu
from tests.integration.conftest import DEMO
from tests.reference_letterbox import NUMBERS
from tests.surfaces import ORIENTATIONS, Picture, expected, run

pytestmark = on_gpu
TARGET = (512, 512)
SIZES = [(1, 1), (1, 900), (17, 1023), (48, 64), (721, 3), (1080, 1920), (4320, 7680)]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_is_within_a_level_of_its_definition(size: tuple[int, int], wide: bool) -> None:
    Device(0)
    random = np.random.default_rng(size[0])
    for seed, orientation in enumerate(ORIENTATIONS):
        weights, full_range = random.choice(list(NUMBERS)), bool(random.integers(2))
        picture = Picture(size, wide=wide, seed=seed)
        surface = picture.surface(NUMBERS[weights], orientation, full_range=full_range)
        (row,) = run([surface], [0], 1, TARGET)
        exact = expected(picture, weights, orientation, TARGET, full_range=full_range)
        assert np.abs(row - exact).max() <= 1, (weights, orientation, full_range)
        picture.close()


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_rows_are_those_of_the_cpu(codec: str, tmp_path: Path) -> None:
    path = DEMO
    if codec != "libx264":
        path = clips.write(tmp_path / "clip.mp4", [clips.corners((256, 320))] * 20, codec=codec)
    config = stream(path, decode="cuda")
    source = open_stream(config, DecoderChoice(config, surfaces=True))
    compared = 0
    for picture in source:
        image = picture.image
        assert isinstance(image, Surface)
        (row,) = run([image], [0], 1, TARGET)
        own = np.zeros((*TARGET, 3), np.uint8)
        fill_row(image.pixels(), own, letterbox_geometry(image.size, TARGET))
        away = np.abs(row.astype(np.int16) - own)
        assert away.mean() <= 1, away.mean()
        lines, own_lines = (np.flatnonzero(each.any(axis=(1, 2))) for each in (row, own))
        assert lines.tolist() == own_lines.tolist()
        compared += 1
    source.close()
    assert compared >= 20


@pytest.mark.parametrize("orientation", clips.ORIENTATIONS)
def test_a_surface_is_turned_as_its_pixels_are(orientation: str, tmp_path: Path) -> None:
    matrix, seen = clips.ORIENTATIONS[orientation]
    path = clips.orient(
        clips.write(tmp_path / "turned.mp4", [clips.corners((256, 320))] * 3), matrix
    )
    config = stream(path, decode="cuda")
    source = open_stream(config, DecoderChoice(config, surfaces=True))
    image = next(iter(source)).image
    assert isinstance(image, Surface)
    assert clips.quarters(image.pixels()) == seen
    (row,) = run([image], [0], 1, TARGET)
    g = letterbox_geometry(image.size, TARGET)
    top, left = round(g.ty), round(g.tx)
    assert clips.quarters(row[top : 512 - top, left : 512 - left]) == seen
    source.close()


def test_colours_depth_and_size_may_change_midway(tmp_path: Path) -> None:
    images = surfaces_of(clips.changing(tmp_path / "changing.hevc"))
    assert len(images) == 25
    assert {image.form.wide for image in images} == {False, True}
    for image in images:
        assert clips.quarters(image.pixels()) == "RG BW"
        (row,) = run([image], [0], 1, TARGET)
        g = letterbox_geometry(image.size, TARGET)
        top, left = round(g.ty), round(g.tx)
        assert clips.quarters(row[top : 512 - top, left : 512 - left]) == "RG BW"


@pytest.mark.parametrize("crop", [(4, 10, 6, 8), (16, 66, 0, 0)])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_is_cropped_at_the_left_and_top_is_cropped(
    codec: str, crop: clips.Crop, tmp_path: Path
) -> None:
    whole = clips.blocks(tmp_path / f"whole.{codec}", (256, 320))
    cropped = clips.cropped(tmp_path / f"cropped.{codec}", whole, crop)
    assert_like_software(clips.joined(tmp_path / f"joined.{codec}", cropped, whole, cropped))


def assert_like_software(path: Path) -> None:
    software = open_stream(stream(path, decode="cpu"))
    compared = 0
    for image, theirs in zip(surfaces_of(path), software, strict=True):
        assert image.size == theirs.image.size
        away = image.pixels().astype(np.int16) - theirs.image.pixels()
        assert np.abs(away).max() <= 2
        (row,) = run([image], [0], 1, image.size)
        assert np.abs(row.astype(np.int16) - theirs.image.pixels()).mean() <= 1.5
        compared += 1
    assert compared > 20


def surfaces_of(path: Path) -> list[Surface]:
    config = stream(path, decode="cuda")
    source = open_stream(config, DecoderChoice(config, surfaces=True))
    try:
        images = [picture.image for picture in source]
    finally:
        source.close()
    surfaces = [image for image in images if isinstance(image, Surface)]
    assert len(surfaces) == len(images)
    return surfaces

"""Image files: turned, cut off, too large."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from centernetd.commands.detect import find_images, read_image
from centernetd.errors import SourceError
from tests import models
from tests.commandline import RED, CommandLine, squares_model
from tests.exports import Pixels

PICTURE = models.draw((96, 160), RED)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

# How a picture is stored that each EXIF orientation turns upright.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def encoded(suffix: str, picture: Pixels) -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(picture))[1].tobytes()


def with_orientation(suffix: str, picture: Pixels, orientation: int) -> bytes:
    """A JPEG or PNG file whose EXIF defines how it is to be turned."""
    content = encoded(suffix, picture)
    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    if suffix == ".jpg":
        exif = b"Exif\0\0" + exif
        return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    chunk = b"eXIf" + exif
    after_header = 33
    chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:after_header] + chunk + content[after_header:]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_turned_upright(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    stored = STORED[orientation](PICTURE)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(with_orientation(suffix, stored, orientation))
    found = read_image(path)
    assert found.shape == PICTURE.shape
    apart = np.abs(found.astype(int) - PICTURE)
    assert apart.mean() < 2, "it is turned otherwise"


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jpe", ".JPG", ".ppm", ".pnm", ".dib"])
def test_every_kind_of_image_in_a_folder_is_found_and_read(suffix: str, tmp_path: Path) -> None:
    kind = {".jfif": ".jpg", ".JPG": ".jpg"}.get(suffix, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(kind, PICTURE))
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images([str(tmp_path)]) == [path]
    assert read_image(path).shape == PICTURE.shape


@pytest.mark.parametrize("suffix", [".jp2", ".heic", ".jxl"])
def test_an_image_in_a_folder_that_can_not_be_decoded_is_reported(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"of a kind that this OpenCV doesn't know")
    assert find_images([str(tmp_path)]) == [path]
    with pytest.raises(SourceError, match="is not an image that can be decoded"):
        read_image(path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_a_file_that_was_cut_off_is_reported(
    suffix: str, share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = encoded(suffix, NOISE)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SourceError, match="is not an image that can be decoded"):
        read_image(path)
    assert "[ERROR" not in capfd.readouterr().err, "OpenCV speaks"


@pytest.mark.parametrize("size", [(1, 32767), (32767, 1)])
def test_more_pixels_a_side_than_can_be_fitted_in_are_reported(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", np.zeros((*size, 3), np.uint8)))
    with pytest.raises(
        SourceError, match=f"has {size[1]}x{size[0]} pixels: at most 32766 per side"
    ):
        read_image(path)


def test_a_folder_that_can_not_be_written_costs_no_result(cli: CommandLine, tmp_path: Path) -> None:
    model = squares_model(tmp_path)
    names = [tmp_path / "a.png", tmp_path / "b.png"]
    for name in names:
        cv2.imwrite(str(name), PICTURE)
    outcome = cli("detect", *names, "-m", model, "-o", model)
    assert outcome.code == 1
    assert outcome.out.splitlines() == [f"{name}: 1 red" for name in names]
    for name in names:
        assert f"centernetd: {model}/{name.name}: can't be written: " in outcome.err

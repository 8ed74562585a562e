"""Image files: finding, reading and writing them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.commands.find import find_files
from centernetd.config import regular
from centernetd.errors import SinkError, SourceError
from centernetd.sink.file import unused

Image = NDArray[np.uint8]

# Only applied to folders; a file named explicitly may have any suffix. Includes formats that can't
# be decoded here, since silently skipped files would go unnoticed.
_IMAGES = (
    "avif bmp dib gif heic heif jfif jp2 jpe jpeg jpg jxl pam pbm pgm png pnm ppm tif tiff webp"
)
_IMAGE_SUFFIXES = frozenset(f".{kind}" for kind in _IMAGES.split())
_LARGEST_FILE = 2**30  # bytes
_LONGEST = 32766  # OpenCV 4's warpAffine has 16-bit pixel coordinates
_WRITTEN_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def find_images(names: Sequence[str]) -> list[Path]:
    """Return the image files that ``names`` match, as `find_files` does."""
    return find_files(names, _IMAGE_SUFFIXES)


def read_image(path: Path) -> Image:
    """Return an image as BGR [height, width, 3], rotated upright according to its EXIF tag.

    Raises
    ------
    SourceError
        The image can't be read; the message doesn't name it.
    """
    if path.is_dir():
        raise SourceError("holds no image")
    try:
        content = regular.read(path, _LARGEST_FILE)
    except OSError as error:
        raise SourceError(f"can't be read: {(error.strerror or '').lower()}") from None
    if not content:
        raise SourceError("the file is empty")
    try:
        with _silence():
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # such as an image over OpenCV's size limit
        image = None
    if image is None:
        raise SourceError("is no image that can be decoded")
    height, width, _ = image.shape
    if max(height, width) > _LONGEST:
        raise SourceError(f"has {width}x{height} pixels: at most {_LONGEST} a side can be run")
    return np.asarray(image, np.uint8)


@contextmanager
def _silence() -> Iterator[None]:
    """Silence OpenCV's logging, which lacks the file name; we report errors ourselves."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def save(image: Image, folder: Path, name: str) -> Path:
    """Write ``image`` as JPEG or PNG into ``folder``, never overwriting; return its path.

    A ``name`` with any other suffix gets .png instead.

    Raises
    ------
    SinkError
        The image can't be written.
    """
    wanted = folder / name
    if wanted.suffix.lower() not in _WRITTEN_SUFFIXES:
        wanted = wanted.with_suffix(".png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = unused(wanted)
        _, content = cv2.imencode(path.suffix, image)
        path.write_bytes(content.tobytes())
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or "it is too large for this format"
        raise SinkError(f"{wanted}: can't be written: {reason}") from None
    return path

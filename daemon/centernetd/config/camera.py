"""Cameras under /dev: ``v4l2:0?size=1280x720&format=mjpeg&fps=30``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

_WHICH = re.compile(r"[0-9]{1,3}|/dev/[^\s?]+")
_SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")
_FPS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
FORMATS: Mapping[str, str] = {"mjpeg": "MJPG", "yuyv": "YUYV", "uyvy": "UYVY", "nv12": "NV12"}
"""The pixel formats that can be requested, with the V4L2 FourCC of each."""


@dataclass(frozen=True)
class CameraAddress:
    """A V4L2 device and the requested settings; None leaves a setting to the camera.

    ``size`` is (width, height) in pixels, ``format`` a key of `FORMATS`.
    """

    device: str
    size: tuple[int, int] | None = None
    format: str | None = None
    fps: float | None = None

    @classmethod
    def parse(cls, text: str) -> "CameraAddress":
        """Parse ``v4l2:...``; raises ValueError with a sentence for the user."""
        which, _, query = text.removeprefix("v4l2:").partition("?")
        if not _WHICH.fullmatch(which):
            raise ValueError(
                "is not a camera: write v4l2:0, v4l2:/dev/video0 or v4l2:/dev/v4l/by-id/NAME"
            )
        device = f"/dev/video{which}" if which.isdigit() else which
        settings = parse_qsl(query, keep_blank_values=True)
        given = {key: _setting(key, value) for key, value in settings}
        if len(given) < len(settings):
            raise ValueError("sets the same thing twice")
        return cls(device, **given)  # type: ignore[arg-type]


def _setting(key: str, value: str) -> object:
    if key not in _SETTINGS:
        raise ValueError(
            f"sets something that a camera does not have: there are {', '.join(_SETTINGS)}"
        )
    return _SETTINGS[key](value)


def _size(value: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError("sets an invalid size: write size=1280x720")
    return int(match[1]), int(match[2])


def _format(value: str) -> str:
    if value not in FORMATS:
        raise ValueError(f"sets a format that is not supported: there are {', '.join(FORMATS)}")
    return value


def _fps(value: str) -> float:
    if not _FPS.fullmatch(value) or float(value) == 0:
        raise ValueError("sets an invalid rate: write fps=30")
    return float(value)


_SETTINGS: Mapping[str, Callable[[str], object]] = {"size": _size, "format": _format, "fps": _fps}

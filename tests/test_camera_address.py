"""Cameras as the configuration names them, and what is asked of them."""

import pytest

from centernetd.config.camera import CameraAddress
from centernetd.config.secret import SourceUri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v4l2:0", CameraAddress("/dev/video0")),
        ("v4l2:12?fps=7.5", CameraAddress("/dev/video12", fps=7.5)),
        ("v4l2:/dev/video3?size=640x480", CameraAddress("/dev/video3", size=(640, 480))),
        (
            "v4l2:/dev/v4l/by-id/usb-A+B_Cam:1.0-video-index0?format=mjpeg&size=1920x1080&fps=30",
            CameraAddress("/dev/v4l/by-id/usb-A+B_Cam:1.0-video-index0", (1920, 1080), "mjpeg", 30),
        ),
    ],
)
def test_a_camera_and_what_is_asked_of_it(text: str, expected: CameraAddress) -> None:
    assert CameraAddress.parse(text) == expected
    assert SourceUri(text).scheme == "v4l2"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("v4l2:front", "is not a camera: write v4l2:0"),
        ("v4l2:/etc/passwd", "is not a camera"),
        ("v4l2:0?size=big", "size=1280x720"),
        ("v4l2:0?size=0x480", "size=1280x720"),
        ("v4l2:0?format=h264", "there are mjpeg, yuyv, uyvy, nv12"),
        ("v4l2:0?fps=0", "fps=30"),
        ("v4l2:0?fps=many", "fps=30"),
        ("v4l2:0?fps=", "fps=30"),
        ("v4l2:0?colour=red", "there are size, format, fps"),
        ("v4l2:0?fps=5&fps=6", "twice"),
    ],
)
def test_what_is_no_camera_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SourceUri(text)

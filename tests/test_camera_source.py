"""V4L2 cameras: there is none here, so OpenCV's part is a strict fake of it."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from daemon.capture.camera import CameraSource
from daemon.capture.open import open_source
from daemon.config.secret import SourceUri
from daemon.errors import SourceError


class FakeVideoCapture:
    """OpenCV's V4L2 capture with ``left`` pictures in it.

    It opens no device given further parameters, and must neither be read after its release nor
    asked for a picture that wasn't grabbed (the real one then reads out of bounds).
    """

    left = 3
    undecodable = -1
    made: "FakeVideoCapture"

    def __init__(self, device: str, backend: int, *parameters: object) -> None:
        assert backend == cv2.CAP_V4L2
        self.device = device
        self.opened = not parameters and device != "/dev/video9"
        self.settings: dict[int, float] = {}
        self.grabbed = False
        self.released = 0
        type(self).made = self

    def isOpened(self) -> bool:
        return self.opened

    def set(self, prop: int, value: float) -> bool:
        self._refuse_when_released()
        self.settings[prop] = value
        return True

    def get(self, prop: int) -> float:
        self._refuse_when_released()
        assert prop == cv2.CAP_PROP_FOURCC
        return float(int.from_bytes(b"MJPG", "little"))

    def grab(self) -> bool:
        self._refuse_when_released()
        self.left -= 1
        self.grabbed = self.left >= 0
        return self.grabbed

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        assert self.grabbed, "asked for a picture that wasn't grabbed"
        self.grabbed = False
        if self.left == self.undecodable:
            return False, None
        return True, np.full((4, 6, 3), self.left, np.uint8)

    def release(self) -> None:
        self.opened = False
        self.released += 1

    def _refuse_when_released(self) -> None:
        assert self.opened, "used after its release"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeVideoCapture]]:
    monkeypatch.setattr(cv2, "VideoCapture", FakeVideoCapture)
    yield FakeVideoCapture
    assert FakeVideoCapture.made.released


@pytest.mark.parametrize("source", ["v4l2:77", "v4l2:/dev/video77"])
def test_a_missing_camera_is_named(source: str) -> None:
    with pytest.raises(SourceError, match="no working camera at /dev/video77") as caught:
        CameraSource(SourceUri(source))
    assert caught.value.reason == "open_failed"


def test_pictures_come_without_pts_until_the_camera_gives_none(
    fake: type[FakeVideoCapture],
) -> None:
    camera = open_source(SourceUri("v4l2:0"), timeout=5)
    assert fake.made.device == "/dev/video0"
    assert fake.made.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}
    assert (camera.info.codec, camera.info.decoder) == ("mjpg", "v4l2")
    pictures = iter(camera)
    for value in (2, 1, 0):
        picture = next(pictures)
        assert picture.pts is None
        assert picture.image.shape == (4, 6, 3)
        assert (picture.image == value).all()
        assert picture.decode_seconds >= 0
    with pytest.raises(SourceError, match="gives no picture any more") as caught:
        next(pictures)
    assert caught.value.reason == "read_failed"
    camera.close()
    camera.close()


def test_a_picture_that_cannot_be_decoded_is_an_error(
    fake: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "undecodable", 1)
    camera = CameraSource(SourceUri("v4l2:/dev/video3"))
    assert fake.made.device == "/dev/video3"
    pictures = iter(camera)
    next(pictures)
    with pytest.raises(SourceError, match="can't be decoded"):
        next(pictures)
    camera.close()


def test_a_camera_that_does_not_open_is_released(fake: type[FakeVideoCapture]) -> None:
    with pytest.raises(SourceError, match="/dev/video9"):
        CameraSource(SourceUri("v4l2:9"))
    assert fake.made.released == 1

"""V4L2 cameras: there is none here, so OpenCV's part is a strict fake of it."""

import time
from collections.abc import Container, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from centernetd.capture.camera import CameraSource
from centernetd.capture.open import open_stream
from centernetd.config.secret import SourceUri
from centernetd.errors import SourceError
from tests.capture_rig import stream

MJPG, YUYV = cv2.VideoWriter.fourcc(*"MJPG"), cv2.VideoWriter.fourcc(*"YUYV")
SIZES = [(640, 480), (1280, 720)]  # what it can do, as V4L2 takes the nearest


class FakeVideoCapture:
    """OpenCV's V4L2 capture with ``left`` pictures in it.

    It opens no device given further parameters, and must neither be read after its release nor
    asked for a picture that wasn't grabbed (the real one then reads out of bounds). A size is
    taken on once both sides are informed. When it has no picture left, a grab takes ``silence``
    seconds to report that.
    """

    plugged = frozenset({"/dev/video0", "/dev/video3", "/dev/v4l/by-id/usb-Cam_X-index0"})
    left = 3
    silence = 0.0
    undecodable: Container[int] = ()
    interval = 0.0
    clock = 100.0
    made: "FakeVideoCapture | None" = None

    def __init__(self, device: str, backend: int, *parameters: object) -> None:
        assert backend == cv2.CAP_V4L2
        self.device = device
        self.opened = not parameters and device != "/dev/video3"
        self.asked: list[int] = []
        self.fourcc = YUYV
        self.wanted: dict[int, float] = {}
        self.size = SIZES[0]
        self.grabbed = False
        self.released = 0
        type(self).made = self

    def isOpened(self) -> bool:
        return self.opened

    def set(self, prop: int, value: float) -> bool:
        self._refuse_when_released()
        self.asked.append(prop)
        if prop == cv2.CAP_PROP_FOURCC:
            self.fourcc = int(value) if value in (MJPG, YUYV) else self.fourcc
        self.wanted[prop] = value
        sides = [self.wanted.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, 4)]
        if None not in sides:
            self.size = min(SIZES, key=lambda size: abs(size[0] - (sides[0] or 0)))
        return True

    def get(self, prop: int) -> float:
        self._refuse_when_released()
        known = {cv2.CAP_PROP_FOURCC: self.fourcc, cv2.CAP_PROP_FRAME_WIDTH: self.size[0]}
        return float(known[prop] if prop in known else self.size[1])

    def grab(self) -> bool:
        self._refuse_when_released()
        self.left -= 1
        self.grabbed = self.left >= 0
        type(self).clock += self.interval if self.grabbed else self.silence
        return self.grabbed

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        assert self.grabbed, "asked for a picture that wasn't grabbed"
        self.grabbed = False
        if self.left in self.undecodable:
            return False, None
        return True, np.full((4, 6, 3), self.left, np.uint8)

    def release(self) -> None:
        self.opened = False
        self.released += 1

    def _refuse_when_released(self) -> None:
        assert self.opened, "used after its release"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeVideoCapture]]:
    class Camera(FakeVideoCapture):
        """One test's own."""

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in Camera.plugged)
    monkeypatch.setattr(time, "monotonic", lambda: Camera.clock)
    yield Camera
    assert Camera.made is None or Camera.made.released


def made(fake: type[FakeVideoCapture]) -> FakeVideoCapture:
    assert fake.made is not None
    return fake.made


def camera(uri: str = "v4l2:0", timeout: float = 5.0) -> CameraSource:
    return CameraSource(SourceUri(uri), timeout)


@pytest.mark.parametrize("source", ["v4l2:77", "v4l2:/dev/video77?fps=5"])
def test_a_missing_camera_is_named(source: str) -> None:
    with pytest.raises(SourceError, match="there is no camera at /dev/video77") as caught:
        camera(source)
    assert caught.value.reason == "not_found"


def test_pictures_come_without_pts_until_the_camera_gives_none(
    fake: type[FakeVideoCapture],
) -> None:
    source = open_stream(stream("v4l2:0"))
    assert made(fake).device == "/dev/video0"
    assert made(fake).asked == [cv2.CAP_PROP_BUFFERSIZE], "the rest is left to the camera"
    assert (source.info.codec, source.info.decoder) == ("yuyv", "v4l2")
    pictures = iter(source)
    for value in (2, 1, 0):
        picture = next(pictures)
        assert picture.pts is None
        assert picture.image.pixels().shape == (4, 6, 3)
        assert (picture.image.pixels() == value).all()
        assert picture.decode_seconds >= 0
    with pytest.raises(SourceError, match="has stopped delivering pictures") as caught:
        next(pictures)
    assert caught.value.reason == "read_failed"
    source.close()
    source.close()


def test_format_size_and_rate_are_asked_for(fake: type[FakeVideoCapture]) -> None:
    source = camera("v4l2:/dev/v4l/by-id/usb-Cam_X-index0?size=1280x720&format=mjpeg&fps=30")
    assert made(fake).device == "/dev/v4l/by-id/usb-Cam_X-index0"
    assert made(fake).asked[1:] == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]
    assert made(fake).wanted[cv2.CAP_PROP_FPS] == 30
    assert source.info.codec == "mjpg"
    source.close()


@pytest.mark.parametrize("wish", ["size=1000x700", "format=nv12"])
def test_what_the_camera_cannot_do_is_reported(fake: type[FakeVideoCapture], wish: str) -> None:
    with pytest.raises(SourceError, match=r"delivers yuyv of \d+x\d+ instead.*--list-formats"):
        camera(f"v4l2:0?{wish}")


def test_a_silent_camera_is_given_up_within_the_timeout(fake: type[FakeVideoCapture]) -> None:
    fake.left, fake.silence = 1, 1.0
    source = camera(timeout=5.0)
    pictures = iter(source)
    next(pictures)
    before = fake.clock
    with pytest.raises(SourceError, match="no picture for 5 s") as caught:
        next(pictures)
    assert caught.value.reason == "stalled"
    assert 3 <= fake.clock - before <= 5
    source.close()


def test_a_camera_that_is_unplugged_is_missing_at_once_and_found_again(
    fake: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.left = 0
    source = camera()
    with monkeypatch.context() as unplugged:
        unplugged.setattr(fake, "plugged", frozenset())
        with pytest.raises(SourceError, match="there is no camera at /dev/video0"):
            next(iter(source))
        source.close()
        with pytest.raises(SourceError, match="there is no camera at /dev/video0"):
            camera()
    fake.left = 2
    again = camera()
    assert next(iter(again)).image.pixels().shape == (4, 6, 3)
    again.close()


def test_a_picture_that_cannot_be_decoded_is_passed_over(fake: type[FakeVideoCapture]) -> None:
    fake.undecodable = [1]
    source = camera()
    pictures = iter(source)
    assert [int(next(pictures).image.pixels()[0, 0, 0]) for _ in range(2)] == [2, 0]
    assert source.damaged == 1
    source.close()


def test_a_camera_whose_pictures_can_never_be_decoded_is_given_up(
    fake: type[FakeVideoCapture],
) -> None:
    fake.left, fake.undecodable, fake.interval = 100, range(99), 0.1
    source = camera()
    pictures, before = iter(source), fake.clock
    next(pictures)
    with pytest.raises(SourceError, match="no picture for 5 s") as caught:
        next(pictures)
    assert caught.value.reason == "stalled"
    assert 3 <= fake.clock - before <= 5
    assert source.damaged > 30
    source.close()


def test_the_camera_fills_a_buffer_while_another_is_read(fake: type[FakeVideoCapture]) -> None:
    source = camera()
    assert made(fake).wanted[cv2.CAP_PROP_BUFFERSIZE] == 2
    source.close()


def test_a_camera_that_does_not_open_is_released(fake: type[FakeVideoCapture]) -> None:
    with pytest.raises(SourceError, match="/dev/video3 is in use"):
        camera("v4l2:3")
    assert made(fake).released == 1

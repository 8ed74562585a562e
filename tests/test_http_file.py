"""MJPEG over HTTP as servers send it: every form of multipart, chains of JPEGs, single pictures."""

import itertools
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import pytest

from centernetd.capture.http_file import jpegs
from centernetd.capture.open import open_stream
from tests import clips
from tests.capture_rig import stream
from tests.fakes import WAIT_TIMEOUT
from tests.http_servers import answering, head

COUNT = 6


def jpeg(number: int, *options: int) -> bytes:
    coded, content = cv2.imencode(".jpg", clips.numbered(number, (48, 64)), options)
    assert coded
    return content.tobytes()


PICTURES = [jpeg(number) for number in range(COUNT)]
LENGTH = "Content-Length: {}\r\n"
FORMS = {
    "in order": ("multipart/x-mixed-replace; boundary=b", "--b\r\n{type}{length}\r\n", "\r\n"),
    "boundary after": (
        "multipart/x-mixed-replace; boundary=b",
        "{type}{length}\r\n",
        "\r\n--b\r\n",
    ),
    "no length": ("multipart/x-mixed-replace; boundary=b", "--b\r\n{type}\r\n", "\r\n"),
    "after, no length": ("multipart/x-mixed-replace; boundary=b", "{type}\r\n", "\r\n--b\r\n"),
    "no line before it": ("multipart/x-mixed-replace; boundary=b", "--b\r\n{type}\r\n", ""),
    "quoted": ('multipart/x-mixed-replace; boundary="a b"', "--a b\r\n{type}{length}\r\n", "\r\n"),
    "dashes named too": (
        "multipart/x-mixed-replace; boundary=--b",
        "--b\r\n{type}{length}\r\n",
        "\r\n",
    ),
    "dashes twice": (
        "multipart/x-mixed-replace; boundary=--b",
        "----b\r\n{type}{length}\r\n",
        "\r\n",
    ),
    "no dashes": ("multipart/x-mixed-replace; boundary=b", "b\r\n{type}{length}\r\n", "\r\n"),
    "another one": ("multipart/x-mixed-replace; boundary=c", "--b\r\n{type}{length}\r\n", "\r\n"),
    "none named": ("multipart/x-mixed-replace", "--b\r\n{type}{length}\r\n", "\r\n"),
    "only LF": ("multipart/x-mixed-replace; boundary=b", "--b\n{type}\n", "\n"),
    "no head": ("multipart/x-mixed-replace; boundary=b", "--b\r\n\r\n", "\r\n"),
    "no type": ("multipart/x-mixed-replace; boundary=b", "--b\r\n{length}\r\n", "\r\n"),
    "other case": ("Multipart/Mixed;Boundary=b", "--b\r\ncontent-type:image/jpg\r\n\r\n", "\r\n"),
    "wrong length": (
        "multipart/x-mixed-replace; boundary=b",
        "--b\r\n{type}Content-Length: 7\r\n\r\n",
        "\r\n",
    ),
    "unknown media type": ("application/octet-stream", "--b\r\n{type}{length}\r\n", "\r\n"),
    "chain": ("video/x-motion-jpeg", "", ""),
    "chain called a picture": ("image/jpeg", "", ""),
    "chain with zeros": ("image/jpeg", "", "\0" * 100),
}


def body(before: str, after: str, pictures: Iterable[bytes]) -> Iterator[bytes]:
    for picture in pictures:
        length = LENGTH.format(len(picture))
        part = before.format(type="Content-Type: image/jpeg\r\n", length=length)
        yield part.encode() + picture + after.encode()


@pytest.mark.parametrize("form", FORMS)
def test_a_camera_is_read_however_it_parts_its_pictures(form: str) -> None:
    media_type, before, after = FORMS[form]
    sent = [head(media_type), *body(before, after, PICTURES)]
    with (
        answering(lambda _: sent) as server,
        closing(open_stream(stream(f"{server.url}/live", 20.0))) as source,
    ):
        found = [clips.number_of(picture.image.pixels()) for picture in islice(source, COUNT)]
        assert source.damaged == 0
    assert found == list(range(COUNT))


def test_a_picture_is_given_out_before_the_next_has_begun() -> None:
    """Otherwise everything is late by a frame: it waits for a boundary that comes with the next."""
    taken = threading.Semaphore(0)

    def sent() -> Iterator[bytes]:
        yield head("multipart/x-mixed-replace; boundary=b")
        for part in body("--b\r\n{type}\r\n", "\r\n", PICTURES):
            yield part
            if not taken.acquire(timeout=WAIT_TIMEOUT):
                return

    with (
        answering(lambda _: sent()) as server,
        closing(open_stream(stream(f"{server.url}/live", 2 * WAIT_TIMEOUT))) as source,
    ):
        for number, picture in enumerate(source):
            assert clips.number_of(picture.image.pixels()) == number
            taken.release()
    assert number == COUNT - 1


def test_a_still_picture_is_asked_for_again_and_again() -> None:
    numbers = itertools.count()

    def sent(_: object) -> list[bytes]:
        picture = PICTURES[next(numbers) % COUNT]
        return [head("image/jpeg", f"Content-Length: {len(picture)}"), picture]

    with (
        answering(sent) as server,
        closing(open_stream(stream(f"{server.url}/shot.jpg", 20.0))) as source,
    ):
        found = [clips.number_of(picture.image.pixels()) for picture in islice(source, COUNT)]
    assert found == list(range(COUNT))


@pytest.mark.parametrize("step", [1, 2, 7, 1000, 100_000])
@pytest.mark.parametrize(
    "options",
    [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)],
    ids=["baseline", "progressive", "restarts"],
)
def test_pictures_are_found_in_any_pieces(step: int, options: tuple[int, ...]) -> None:
    pictures = [jpeg(number, *options) for number in range(3)]
    sent = b"\xff--b\xff\xd8\r\n" + b"\xff\xd9--b\r\n".join(pictures) + b"\xff"
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    assert list(jpegs(pieces)) == pictures


def test_a_picture_within_a_picture_belongs_to_it() -> None:
    thumbnail = jpeg(1)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    picture = PICTURES[0][:2] + segment + PICTURES[0][2:]
    assert list(jpegs([picture, PICTURES[1]])) == [picture, PICTURES[1]]


def test_a_picture_without_its_end_ends_with_the_next() -> None:
    cut = PICTURES[0][:-2]
    assert list(jpegs([cut, PICTURES[1]])) == [cut, PICTURES[1]]


def test_files_of_cameras_are_left_alone(tmp_path: Path) -> None:
    clip = clips.count(tmp_path / "a.ts", 5).read_bytes()
    with (
        answering(lambda _: [head("video/mp2t"), clip]) as server,
        closing(open_stream(stream(f"{server.url}/live", 20.0))) as source,
    ):
        assert len(list(source)) == 5

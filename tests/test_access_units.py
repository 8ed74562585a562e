"""Pictures that come in pieces, and streams that are refreshed bit by bit: all are shown."""

from itertools import islice, pairwise
from pathlib import Path

import pytest

from centernetd.capture.access_units import begins_picture
from centernetd.capture.source import Picture
from centernetd.capture.video import VideoSource
from centernetd.errors import SourceError
from tests.capture_rig import video_source
from tests.rtp import kind_of
from tests.rtsp import Video, moving_square, serving
from tests.test_damage import NOISE, distances

CODECS = ["h264", "hevc"]
SIZE = (128, 160)
START = b"\x00\x00\x01"


def sliced(codec: str) -> Video:
    return moving_square(count=50, rate=50, codec=codec, parameters="slices=4")


def refreshed(codec: str) -> Video:
    """Encode a camera's pictures with one key frame, and a refresh every 20."""
    return moving_square(
        count=100,
        rate=50,
        key_interval=20,
        codec=codec,
        parameters="intra-refresh=1:repeat-headers=1",
    )


def shown(
    url: str, count: int, *, timeout: float = 20, packets: bool = False
) -> tuple[list[Picture], VideoSource]:
    source = video_source(url, timeout, packets=packets)
    try:
        return list(islice(source, count)), source
    finally:
        source.close()


@pytest.mark.parametrize("codec", CODECS)
def test_a_key_frame_in_slices_with_their_own_parameter_sets_is_one_picture(codec: str) -> None:
    video = sliced(codec)
    with serving(video) as camera:
        whole, _ = shown(camera.url("play"), 40)
    with serving(video.with_sets_everywhere) as camera:
        found, source = shown(camera.url("play"), 40, packets=True)
    assert source.damaged == 0
    images = [picture.image.pixels() for picture in whole]
    assert max(distances([picture.image.pixels() for picture in found], images)) <= NOISE
    steps = {b.pts - a.pts for a, b in pairwise(found[2:])}  # type: ignore[operator]
    assert steps == {90_000 // video.rate}
    copied = [packet for picture in found for packet in picture.packets]
    assert len(copied) in (40, 41)
    assert len({packet.pts for packet in copied[2:]}) == len(copied[2:])


def test_slices_that_begin_to_come_later_cost_the_rest_of_that_key_frame_and_no_more() -> None:
    video = sliced("h264")
    cut = video.with_sets_everywhere
    with serving(Video([*video.pictures[:20], *cut.pictures[20:]], video.rate)) as camera:
        found, source = shown(camera.url("play"), 60)
    assert len(found) == 60
    assert 0 < source.damaged <= 11


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_of_such_slices_has_all_its_pictures(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{codec}"
    pictures = sliced(codec).with_sets_everywhere.pictures
    path.write_bytes(b"".join(b"\x00" + START + unit for units in pictures for unit in units))
    found, source = shown(str(path), 1000)
    assert len(found) == 50
    assert source.damaged == 0


def joined_at(number: int, video: Video) -> Video:
    """Return what a viewer gets who comes at that picture: the parameter sets were announced."""
    sets = {"h264": (7, 8), "hevc": (32, 33, 34)}[video.codec]
    own = [unit for unit in video.pictures[0] if kind_of(unit, video.codec) in sets]
    pictures = video.pictures[number:]
    return Video([[*own, *pictures[0]], *pictures[1:]], video.rate, video.codec)


@pytest.mark.parametrize("start", [1, 7, 33])
def test_a_stream_that_is_refreshed_without_key_frames_is_shown_once_it_is_whole(
    start: int,
) -> None:
    video = refreshed("h264")
    with serving(video) as camera:
        whole, _ = shown(camera.url("play"), 100)
    with serving(joined_at(start, video)) as camera:
        found, source = shown(camera.url("play"), 20)
    assert source.damaged == 0
    images = [picture.image.pixels() for picture in whole]
    assert max(distances([picture.image.pixels() for picture in found], images)) <= NOISE


def test_damage_of_such_a_stream_costs_a_refresh_and_no_more() -> None:
    video = refreshed("h264")
    pictures = [*video.pictures[:45], *video.pictures[46:]]
    pictures[50] = [unit[:4] + bytes(len(unit) - 4) for unit in pictures[50]]
    with serving(Video(pictures, video.rate)) as camera:
        found, source = shown(camera.url("play"), 60)
    assert len(found) == 60
    assert 0 < source.damaged <= 45


def test_h265_without_key_frames_is_shown_in_the_end_though_its_decoder_holds_it_back() -> None:
    with serving(joined_at(7, refreshed("hevc"))) as camera:
        found, source = shown(camera.url("play"), 20, timeout=4)
    assert len(found) == 20
    assert source.damaged == 0


def test_a_camera_without_key_frames_is_reported() -> None:
    video = moving_square(count=50, rate=50)
    with (
        serving(video) as camera,
        pytest.raises(SourceError, match="neither a key frame nor a recovery point") as raised,
    ):
        list(video_source(camera.url("keyless"), 2))
    assert "network" not in str(raised.value)
    assert raised.value.reason == "stalled"


UNITS = {
    "h264": {
        "first slice of a key frame": (b"\x65\x88", True),
        "another": (b"\x65\x11", False),
        "first predicted slice": (b"\x41\x9a", True),
        "another predicted one": (b"\x41\x40", False),
        "no slice at all": (b"\x68\x01", True),
        "nothing behind its header": (b"\x65", True),
    },
    "hevc": {
        "first slice of a key frame": (b"\x28\x01\xaf", True),
        "another": (b"\x28\x01\x2f", False),
        "first predicted slice": (b"\x02\x01\xd0", True),
        "another predicted one": (b"\x02\x01\x40", False),
        "no slice at all": (b"\x44\x01\x01", True),
        "nothing behind its header": (b"\x28\x01", True),
    },
}


@pytest.mark.parametrize(
    ("codec", "unit", "begins"),
    [(codec, *case) for codec, cases in UNITS.items() for case in cases.values()],
    ids=[f"{codec}: {name}" for codec, cases in UNITS.items() for name in cases],
)
def test_where_a_picture_begins(codec: str, unit: bytes, begins: bool) -> None:
    sets = {"h264": b"\x67\x42", "hevc": b"\x42\x01\x01"}[codec]
    for data in (START + unit, b"\x00" + START + sets + b"\x00" + START + unit):
        assert begins_picture(data, codec) is begins

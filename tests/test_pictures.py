"""Pictures come out as they are meant to look: turned, mirrored, shaped and coloured."""

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from centernetd.capture import pixels
from centernetd.capture.packets import PacketTimeline
from centernetd.capture.pixels import ToBgr, orientation_of
from centernetd.capture.source import Picture
from centernetd.config import RecordConfig
from centernetd.config.sections import Decode
from centernetd.flow import Orientation, Packet
from centernetd.sink.encoder import Encoder
from centernetd.sink.muxer import FragmentedMp4
from centernetd.sink.recorder import PacketRecorder
from tests import clips
from tests.capture_rig import video_source
from tests.fake_nvdec import FakeNvdec, installed
from tests.sinks import sink_context

SIZE = (48, 64)
SQUARE, WIDE = Fraction(1), Fraction(64, 45)
TAGS: dict[str, tuple[int, bool, bool]] = {  # matrix, whether tagged, whether of full range
    "untagged": (Colorspace.ITU601, False, False),
    "bt601": (Colorspace.ITU601, True, False),
    "bt709": (Colorspace.ITU709, True, False),
    "bt2020": (clips.BT2020, True, False),
    "full-bt601": (Colorspace.ITU601, True, True),
    "full-bt709": (Colorspace.ITU709, True, True),
}


@dataclass(frozen=True)
class Codec:
    encoder: str
    pix_fmt: str = "yuv420p"
    tags: Sequence[str] = ("untagged",)
    copied: bool = False
    encoding: dict[str, str] = field(default_factory=dict)


CODECS = {
    "h264": Codec("libx264", tags=tuple(TAGS), copied=True),
    "h264-b": Codec("libx264", copied=True, encoding={"bf": "2"}),
    "h264-interlaced": Codec("libx264", copied=True, encoding={"x264-params": "tff=1"}),
    "h264-10": Codec("libx264", "yuv420p10le", ("bt709",), copied=True),
    "h264-444": Codec("libx264", "yuv444p", ("bt709", "full-bt601"), copied=True),
    "h264-rgb": Codec("libx264rgb", "bgr24", copied=True),
    "hevc": Codec(
        "libx265",
        tags=("untagged", "bt2020"),
        copied=True,
        encoding={"x265-params": "log-level=none"},
    ),
    "mpeg4": Codec("mpeg4"),
    "mjpeg": Codec("mjpeg", "yuvj420p", ("full-bt601",)),
    "prores": Codec("prores_ks", "yuv422p10le", ("bt601", "bt709")),
    "png": Codec("png", "rgb24"),
    "png-alpha": Codec("png", "rgba"),
    "raw": Codec("rawvideo", "rgb24"),
    "raw-alpha": Codec("rawvideo", "argb"),
    "raw-packed": Codec("rawvideo", "uyvy422", ("bt601",)),
    "animation": Codec("qtrle", "rgb24"),
}
TABLE = [
    pytest.param(name, tag, aspect, orientation, id=f"{name}-{tag}-{aspect}-{orientation}")
    for name, codec in CODECS.items()
    for tag in codec.tags
    for aspect in (SQUARE, WIDE)
    for orientation in clips.ORIENTATIONS
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, Fraction], bytes]:
    """Return what makes a clip, once, and gives its content."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, tag: str, aspect: Fraction) -> bytes:
        codec, (matrix, tagged, full_range) = CODECS[name], TAGS[tag]
        path = clips.write(
            folder / "clip.mov",
            [clips.corners(SIZE)] * 3,
            codec=codec.encoder,
            pix_fmt=codec.pix_fmt,
            matrix=matrix,
            tagged=tagged,
            full_range=full_range,
            aspect=aspect,
            encoding=codec.encoding,
        )
        return path.read_bytes()

    return cache(make)


def read(path: Path, wanted: Decode = "cpu", *, packets: bool = False) -> list[Picture]:
    source = video_source(path, decode=wanted, packets=packets)
    try:
        return list(source)
    finally:
        source.close()


def copied(pictures: Sequence[Picture]) -> Iterator[Packet]:
    timeline = PacketTimeline()
    for picture in pictures:
        yield from timeline.place(picture, picture.pts or 0, picture.time_base, 0.0)


def annotated(pictures: Sequence[Picture]) -> Iterator[Packet]:
    first = pictures[0]
    height, width, _ = first.image.pixels().shape
    encoder = Encoder("libx264", width, height, first.time_base, aspect=first.aspect)
    for picture in pictures:
        yield from encoder.encode(picture.image.pixels(), picture.pts or 0)


def stored(path: Path, packets: Iterator[Packet]) -> Path:
    first = next(packets)
    file = FragmentedMp4(path, first)
    for packet in itertools.chain([first], packets):
        file.write(packet)
    file.close()
    return file.path


def described(pictures: Sequence[Picture]) -> tuple[int, set[tuple[object, ...]]]:
    return len(pictures), {
        (picture.image.pixels().shape[:2], picture.aspect, clips.quarters(picture.image.pixels()))
        for picture in pictures
    }


def tags_of(path: Path) -> tuple[object, ...]:
    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass
        context = container.streams.video[0].codec_context
        tags = context.color_range, context.colorspace, context.color_primaries, context.color_trc
        return (*tags, context.codec_tag)


@pytest.mark.parametrize(("name", "tag", "aspect", "orientation"), TABLE)
def test_the_table(
    clip: Callable[[str, str, Fraction], bytes],
    name: str,
    tag: str,
    aspect: Fraction,
    orientation: str,
    tmp_path: Path,
) -> None:
    matrix, seen = clips.ORIENTATIONS[orientation]
    source = tmp_path / "clip.mov"
    source.write_bytes(clip(name, tag, aspect))
    clips.orient(source, matrix)
    size = SIZE if matrix[0] else SIZE[::-1]
    expected = 3, {(size, aspect if matrix[0] else 1 / aspect, seen)}

    pictures = read(source, packets=CODECS[name].copied)
    assert described(pictures) == expected
    if CODECS[name].pix_fmt == "yuv420p":
        with installed(FakeNvdec()):
            own = read(source, "cuda")
        assert all(
            np.array_equal(a.image.pixels(), b.image.pixels())
            for a, b in zip(own, pictures, strict=True)
        )
        assert described(own) == expected
    drawn = stored(tmp_path / "annotated.mp4", annotated(pictures))
    assert described(read(drawn)) == expected
    assert tags_of(drawn) == (1, 1, 1, 1, "avc1")
    if CODECS[name].copied:
        copy = stored(tmp_path / "copy.mp4", copied(pictures))
        assert described(read(copy)) == expected
        assert tags_of(copy)[:4] == tags_of(source)[:4]
        assert tags_of(copy)[4] == ("hvc1" if name == "hevc" else "avc1")


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((0.98, 0.17, -0.17, 0.98), "RG BW"),
        ((0.7, 0.72, -0.72, 0.7), "BR WG"),
        ((-1.5, 0.1, 0.1, 2), "GR WB"),
        ((0, 0, 0, 0), "RG BW"),
        ((0, 1, 0, 0), "RB GW"),
        ((-1, 1, 1, -1), "WB GR"),
    ],
)
def test_a_matrix_that_is_none_of_the_eight_gets_the_nearest(
    matrix: Sequence[float], seen: str, tmp_path: Path
) -> None:
    path = clips.orient(clips.write(tmp_path / "a.mp4", [clips.corners(SIZE)] * 3), matrix)
    pictures = read(path, packets=True)
    assert {clips.quarters(picture.image.pixels()) for picture in pictures} == {seen}
    again = read(stored(tmp_path / "copy.mp4", copied(pictures)))
    assert {clips.quarters(picture.image.pixels()) for picture in again} == {seen}


@pytest.mark.parametrize(
    ("orientation", "number"), [*zip(clips.ORIENTATIONS, (1, 2, 3, 4, 8, 6, 5, 7), strict=True)]
)
def test_a_jpeg_of_a_stream_may_define_in_exif_how_it_is_shown(
    orientation: str, number: int, tmp_path: Path
) -> None:
    _, content = cv2.imencode(".jpg", clips.corners(SIZE), [cv2.IMWRITE_JPEG_QUALITY, 99])
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, number, 0, 0)
    app1 = b"Exif\0\0" + tiff
    jpeg = content.tobytes()
    tagged = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:]
    path = tmp_path / "a.mjpeg"
    path.write_bytes(tagged * 3)
    assert {clips.quarters(picture.image.pixels()) for picture in read(path)} == {
        clips.ORIENTATIONS[orientation][1]
    }


@pytest.mark.parametrize("encoding", [{"bf": "0"}, {"bf": "2"}])
@pytest.mark.parametrize(
    ("tagged", "seen"),
    [("rotate=90", "GW RB"), ("rotate=0:flip=horizontal", "GR WB"), ("rotate=180", "WB GR")],
)
def test_what_a_camera_defines_in_the_video_itself(
    tagged: str, seen: str, encoding: dict[str, str], tmp_path: Path
) -> None:
    plain = clips.write(tmp_path / "a.mp4", [clips.corners(SIZE)] * 6, encoding=encoding)
    path = clips.remuxed(
        tmp_path / "b.mp4", plain, filtered=f"h264_metadata=display_orientation=insert:{tagged}"
    )
    pictures = read(path, packets=True)
    assert {clips.quarters(picture.image.pixels()) for picture in pictures} == {seen}
    again = read(stored(tmp_path / "copy.mp4", copied(pictures)))
    assert {clips.quarters(picture.image.pixels()) for picture in again} == {seen}


@pytest.mark.parametrize("suffix", ["mov", "mp4"])
def test_the_shape_that_a_container_defines_goes_before_the_videos(
    suffix: str, tmp_path: Path
) -> None:
    plain = clips.write(tmp_path / "a.mp4", [clips.corners(SIZE)] * 3, aspect=Fraction(2))
    path = clips.remuxed(tmp_path / f"b.{suffix}", plain, aspect=WIDE)
    pictures = read(path, packets=True)
    assert {picture.aspect for picture in pictures} == {WIDE}
    for packets in (copied(pictures), annotated(pictures)):
        again = stored(tmp_path / "again.mp4", packets)
        assert {picture.aspect for picture in read(again)} == {WIDE}
        content = again.read_bytes()
        (width,) = struct.unpack_from(">I", content, content.index(b"tkhd") + 80)
        assert width / (1 << 16) == pytest.approx(float(SIZE[1] * WIDE), abs=0.001)


def test_shape_and_orientation_may_change_midway(tmp_path: Path) -> None:
    tagged = "h264_metadata=display_orientation=insert:rotate=90"
    parts = [
        clips.write(
            tmp_path / f"{n}.ts", [clips.corners(SIZE)] * 5, aspect=aspect, encoding={"bf": "0"}
        )
        for n, aspect in enumerate([SQUARE, WIDE])
    ]
    parts.append(clips.remuxed(tmp_path / "2.ts", parts[1], filtered=tagged))
    pictures = read(clips.joined(tmp_path / "all.ts", *parts), packets=True)
    expected = [(SQUARE, "RG BW")] * 5 + [(WIDE, "RG BW")] * 5 + [(1 / WIDE, "GW RB")] * 5
    assert [
        (picture.aspect, clips.quarters(picture.image.pixels())) for picture in pictures
    ] == expected
    codings = [packet.coding for picture in pictures for packet in picture.packets]
    assert [(coding.aspect, coding.orientation) for coding in codings] == (
        [(SQUARE, (1, 0, 0, 1))] * 5 + [(WIDE, (1, 0, 0, 1))] * 5 + [(WIDE, (0, -1, 1, 0))] * 5
    )


def test_the_gpu_turns_what_begins_in_the_middle(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", [clips.corners(SIZE)] * 9, encoding={"g": "12"})
    clips.orient(clips.trim(path, (Fraction(5, 25), Fraction(9, 25))), (0, 1, 1, 0))
    with installed(FakeNvdec()):
        assert [clips.quarters(picture.image.pixels()) for picture in read(path, "cuda")] == [
            "RB GW"
        ] * 4


def test_pictures_on_the_gpu_are_asked_but_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(frame: VideoFrame) -> Orientation | None:
        asked.append(frame)
        return orientation_of(frame)

    monkeypatch.setattr(pixels, "orientation_of", ask)
    encoding = {"g": "3", "bf": "0"}
    path = clips.write(tmp_path / "a.mp4", [clips.corners(SIZE)] * 9, encoding=encoding)
    with installed(FakeNvdec()):
        pictures = read(clips.orient(path, (-1, 0, 0, 1)), "cuda")
    assert [clips.quarters(picture.image.pixels()) for picture in pictures] == ["GR WB"] * 9
    assert len(asked) == 1


def test_colours_may_come_from_a_palette(tmp_path: Path) -> None:
    frame = VideoFrame(64, 48, "pal8")
    indices = np.zeros((48, 64), np.uint8)
    indices[:24, 32:], indices[24:, :32], indices[24:, 32:] = 1, 2, 3
    frame.planes[0].update(indices.tobytes())
    palette = np.zeros(256, "<u4")
    palette[:4] = 0xFFFF0000, 0xFF00FF00, 0xFF0000FF, 0xFFFFFFFF
    frame.planes[1].update(palette.tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("png", rate=25, width=64, height=48, pix_fmt="pal8")
        output.mux([*stream.encode(frame), *stream.encode()])
    (picture,) = read(clips.orient(path, (0, 1, 1, 0)))
    assert clips.quarters(picture.image.pixels()) == "RB GW"


@pytest.mark.parametrize("pix_fmt", ["bgr24", "bgra", "bgr0", "rgb555le"])
def test_rows_may_come_from_the_bottom_up(pix_fmt: str, tmp_path: Path) -> None:
    path = clips.write(
        tmp_path / "a.avi",
        [clips.corners(SIZE)[::-1]] * 2,
        codec="rawvideo",
        pix_fmt=pix_fmt,
        muxing={"flipped_raw_rgb": "1"},
    )
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).planes[0].line_size < 0
    assert {clips.quarters(picture.image.pixels()) for picture in read(path)} == {"RG BW"}


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.flv", "flashsv", "bgr24"), ("a.mov", "qtrle", "rgb24"), ("a.avi", "zmbv", "bgr0")],
)
def test_drawing_spoils_no_later_picture(
    name: str, codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    images = [clips.corners((192, 256)) for _ in range(4)]  # of several blocks, most unchanged
    for number, image in enumerate(images):
        image[:8, : 8 * number] = 0
    path = clips.write(tmp_path / name, images, codec=codec, pix_fmt=pix_fmt)
    source = video_source(path)
    for picture in source:
        assert clips.quarters(picture.image.pixels()) == "RG BW"
        picture.image.pixels()[:] = 99
    source.close()


@pytest.mark.parametrize("size", [SIZE, (720, 1280)])
@pytest.mark.parametrize("layout", ["yuv420p", "nv12", "yuv444p10le"])
@pytest.mark.parametrize(
    ("tagged", "meant"), [(0, None), (3, None), (8, None), (10, 9), (14, None), (99, None)]
)
def test_a_matrix_that_ffmpeg_does_not_know_stops_nothing(
    tagged: int, meant: int | None, layout: str, size: tuple[int, int]
) -> None:
    def converted(matrix: int) -> clips.Image:
        frame = VideoFrame(size[1], size[0], layout)
        for plane in frame.planes:
            plane.update(bytes([90]) * plane.buffer_size)
        frame.colorspace = matrix
        return ToBgr()(frame)

    by_size = Colorspace.ITU709 if size[0] >= 720 else Colorspace.ITU601
    assert np.array_equal(converted(tagged), converted(meant or by_size))


TRIMMED = {
    "no-b": ("libx264", {"bf": "0", "g": "12"}),
    "pyramid": ("libx264", {"bf": "3", "b_strategy": "0", "g": "30", "sc_threshold": "0"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:keyint=30"}),
}


@pytest.mark.parametrize("end", [40, 38])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 14, 35])
@pytest.mark.parametrize("name", TRIMMED)
def test_a_copy_shows_what_an_edit_list_leaves(
    name: str, start: int, end: int, tmp_path: Path
) -> None:
    codec, encoding = TRIMMED[name]
    path = clips.count(
        tmp_path / "a.mp4", 40, (64, 64), codec=codec, encoding=encoding, aspect=WIDE
    )
    clips.trim(path, (Fraction(start, 25), Fraction(end, 25)))
    pictures = read(path, packets=True)
    expected = list(range(start, end))
    assert [clips.number_of(picture.image.pixels()) for picture in pictures] == [
        n % 25 for n in expected
    ]
    copy = stored(tmp_path / "copy.mp4", copied(pictures))
    again = read(copy)
    shown = [
        (clips.number_of(picture.image.pixels()), (picture.pts or 0) * picture.time_base)
        for picture in again
    ]
    assert shown[: len(expected)] == [(n % 25, Fraction(n - start, 25)) for n in expected]
    # FFmpeg heeds no end of an edit in fragments: what others are predicted from can be seen there.
    beyond = shown[len(expected) :]
    assert len(beyond) <= (0 if end == 40 or name == "no-b" else 2)
    content = copy.read_bytes()
    (lasts,) = struct.unpack_from(">I", content, content.index(b"elst") + 12)
    assert lasts == (40 * len(expected) if beyond or start else 0)


@pytest.mark.parametrize("name", TRIMMED)
def test_a_cut_within_a_file_begins_another(name: str, tmp_path: Path) -> None:
    codec, encoding = TRIMMED[name]
    path = clips.count(tmp_path / "a.mp4", 40, (64, 64), codec=codec, encoding=encoding)
    times = [(Fraction(a, 25), Fraction(b, 25)) for a, b in ((3, 13), (27, 40))]
    pictures = read(clips.trim(path, *times), packets=True)
    expected = [*range(3, 13), *range(27, 40)]
    assert [clips.number_of(picture.image.pixels()) for picture in pictures] == [
        n % 25 for n in expected
    ]

    config = RecordConfig(path="gate.mp4", segment=None, video="source")
    out = tmp_path / "out"
    recorder = PacketRecorder(sink_context(out, record=config, from_file=True))
    recorder.write_packets(copied(pictures), [])
    recorder.close()
    again = [read(out / f"gate{n}.mp4") for n in ("", "-1")]
    shown = [clips.number_of(picture.image.pixels()) for picture in itertools.chain(*again)]
    assert shown == [n % 25 for n in expected]

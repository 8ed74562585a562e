"""Files and network streams through PyAV, on real clips of every awkward kind."""

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.reformatter import Colorspace

from centernetd.capture.source import Picture
from centernetd.capture.video import VideoSource
from centernetd.errors import SourceError
from tests import clips
from tests.capture_rig import video_source
from tests.clips import BLUE, GREEN, RED, WHITE

SIZE = (48, 64)


def source(path: Path) -> VideoSource:
    return video_source(path)


def pictures(path: Path) -> list[Picture]:
    opened = source(path)
    try:
        return list(opened)
    finally:
        opened.close()


def numbers(path: Path) -> list[int]:
    return [clips.number_of(picture.image.pixels()) for picture in pictures(path)]


def corner_colours(image: clips.Image) -> list[list[int]]:
    height, width, _ = image.shape
    places = [(y, x) for y in (6, height - 7) for x in (6, width - 7)]
    return [image[place].tolist() for place in places]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov", "a.flv"])
def test_every_picture_comes_once_in_order(name: str, tmp_path: Path) -> None:
    assert numbers(clips.count(tmp_path / name, 20)) == list(range(20))


def test_what_is_known_of_the_source(tmp_path: Path) -> None:
    opened = source(clips.count(tmp_path / "a.mp4", 20))
    assert (opened.info.codec, opened.info.decoder) == ("h264", "h264")
    assert opened.info.total_frames == 20
    assert opened._video.codec_context.thread_count == 1
    opened.close()
    opened.close()


def test_a_picture_is_bgr_uint8_with_the_time_its_decoding_took(tmp_path: Path) -> None:
    (picture,) = pictures(clips.count(tmp_path / "one.mp4", 1))
    assert picture.image.pixels().shape == (*SIZE, 3)
    assert picture.image.pixels().dtype == np.uint8
    assert picture.decode_seconds >= 0


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (49, 63), (1023, 17), (17, 1023)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    images = [clips.numbered(n, size) for n in range(3)]
    found = pictures(clips.write(tmp_path / "odd.mkv", images, codec="ffv1", pix_fmt="yuv444p"))
    assert [picture.image.pixels().shape for picture in found] == [(*size, 3)] * 3
    assert [clips.number_of(picture.image.pixels()) for picture in found] == [0, 1, 2]


def test_a_picture_outlives_its_source(tmp_path: Path) -> None:
    found = pictures(clips.count(tmp_path / "a.mp4", 12))
    assert [clips.number_of(picture.image.pixels()) for picture in found] == list(range(12))


@pytest.mark.parametrize(
    ("pts", "time_base"),
    [
        ([0, 1, 2, 3], Fraction(1, 25)),
        ([0, 1001, 2002, 9009], Fraction(1, 30_000)),
        ([0, 40, 47, 1000, 1040], Fraction(1, 1000)),
        ([450_000, 453_600, 460_000], Fraction(1, 90_000)),
    ],
)
def test_pts_are_the_files_own(pts: list[int], time_base: Fraction, tmp_path: Path) -> None:
    path = clips.count(
        tmp_path / "vfr.mp4",
        len(pts),
        pts=pts,
        time_base=time_base,
        muxing={"movflags": "+faststart"},
    )
    found = pictures(path)
    times = [picture.pts * picture.time_base for picture in found if picture.pts is not None]
    assert [time - times[0] for time in times] == [(p - pts[0]) * time_base for p in pts]
    assert {picture.time_base for picture in found} == {source(path).info.time_base}


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_a_bare_stream_takes_its_rate_for_its_time(
    codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    kind = "h264" if codec == "libx264" else codec
    path = clips.count(tmp_path / f"a.{kind}", 5, codec=codec, pix_fmt=pix_fmt, container=kind)
    times = [
        picture.pts * picture.time_base for picture in pictures(path) if picture.pts is not None
    ]
    assert times == [Fraction(n, 25) for n in range(5)]


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [GREEN, WHITE, RED, BLUE]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [BLUE, RED, WHITE, GREEN]),
    ],
)
def test_a_rotated_video_is_turned_upright(
    angle: int, expected: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    path = clips.write(tmp_path / "phone.mp4", [clips.corners(SIZE)] * 2)
    for picture in pictures(clips.rotate(path, angle)):
        assert picture.image.pixels().shape == ((64, 48, 3) if angle % 180 else (48, 64, 3))
        np.testing.assert_allclose(corner_colours(picture.image.pixels()), expected, atol=6)


@pytest.mark.parametrize(
    ("size", "matrix", "tagged"),
    [
        (SIZE, Colorspace.ITU709, True),
        (SIZE, Colorspace.ITU601, True),
        (SIZE, Colorspace.ITU601, False),
        ((720, 1280), Colorspace.ITU709, True),
        ((720, 1280), Colorspace.ITU601, True),
        ((720, 1280), Colorspace.ITU709, False),
    ],
)
def test_colours_are_right_by_the_tag_or_else_by_the_size(
    size: tuple[int, int], matrix: Colorspace, tagged: bool, tmp_path: Path
) -> None:
    muted = [(60, 90, 200), (90, 180, 60), (190, 80, 70), (200, 200, 200)]
    image = clips.corners(size)
    for loud, quiet in zip((RED, GREEN, BLUE, WHITE), muted, strict=True):
        image[(image == loud).all(axis=2)] = quiet
    path = clips.write(
        tmp_path / "a.mp4", [image] * 2, matrix=matrix, tagged=tagged, encoding={"crf": "1"}
    )
    for picture in pictures(path):
        np.testing.assert_allclose(corner_colours(picture.image.pixels()), muted, atol=3)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "yuv422p", "yuv444p10le", "gray"])
def test_10_bit_and_finer_chroma(pix_fmt: str, tmp_path: Path) -> None:
    image = clips.corners(SIZE)
    (picture,) = pictures(clips.write(tmp_path / "a.mp4", [image], pix_fmt=pix_fmt))
    assert picture.image.pixels().dtype == np.uint8
    if pix_fmt != "gray":
        np.testing.assert_allclose(
            corner_colours(picture.image.pixels()), [RED, GREEN, BLUE, WHITE], atol=6
        )


@pytest.mark.parametrize(("suffix", "container"), [("ts", "mpegts"), ("h264", "h264")])
def test_a_resolution_that_changes_midway_shows_in_the_pictures(
    suffix: str, container: str, tmp_path: Path
) -> None:
    parts = [
        clips.count(tmp_path / f"{n}.{suffix}", 8, size, container=container)
        for n, size in enumerate([(48, 64), (96, 128), (34, 46)])
    ]
    found = pictures(clips.joined(tmp_path / f"all.{suffix}", *parts))
    assert [picture.image.pixels().shape[:2] for picture in found] == (
        [(48, 64)] * 8 + [(96, 128)] * 8 + [(34, 46)] * 8
    )
    assert [clips.number_of(picture.image.pixels()) for picture in found] == [*range(8)] * 3


@pytest.mark.parametrize(
    ("name", "muxing"),
    [
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", {}),
        ("a.ts", {}),
    ],
)
def test_of_a_truncated_file_what_is_readable_is_read(
    name: str, muxing: dict[str, str], tmp_path: Path
) -> None:
    path = clips.truncated(clips.noise(tmp_path / name, 50, muxing=muxing), 0.6)
    opened = source(path)
    assert 27 <= len(list(opened)) <= 32
    assert opened.damaged <= 1
    opened.close()


@pytest.mark.parametrize(("name", "muxing"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {})])
def test_a_file_that_was_cut_off_is_reported(
    name: str, muxing: dict[str, str], tmp_path: Path
) -> None:
    path = clips.truncated(clips.noise(tmp_path / name, 100, muxing=muxing), 0.6)
    opened = source(path)
    with pytest.raises(SourceError, match=r"the file was cut off 1\.\d s before its end"):
        list(opened)
    opened.close()


def test_a_transport_stream_whose_clock_wraps_is_not_cut_off(tmp_path: Path) -> None:
    """FFmpeg lets what comes before the wrap have negative times."""
    path = clips.count(tmp_path / "a.ts", 100, muxing={"output_ts_offset": "95440"})
    opened = source(path)
    found = list(opened)
    assert found[0].pts is not None
    assert found[0].pts < 0
    assert len(found) == 100
    opened.close()


@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "a.mp4", "a.ts", "a.avi", "a.mov", "a.wmv"])
def test_a_file_whose_sound_lasts_longer_is_not_cut_off(name: str, tmp_path: Path) -> None:
    opened = source(clips.with_sound(tmp_path / name, 25, 4))
    assert len(list(opened)) == 25
    opened.close()


def test_a_file_whose_subtitles_last_longer_is_not_cut_off(tmp_path: Path) -> None:
    text = tmp_path / "a.srt"
    text.write_text(
        "1\n00:00:00,100 --> 00:00:00,500\nhere\n\n2\n00:00:08,000 --> 00:00:09,000\nend\n"
    )
    path = tmp_path / "b.mkv"
    with (
        av.open(str(clips.count(tmp_path / "a.mkv", 10))) as pictures,
        av.open(str(text)) as subtitles,
        av.open(str(path), "w") as output,
    ):
        seen, read = pictures.streams.video[0], subtitles.streams.subtitles[0]
        shown, written = (
            output.add_stream_from_template(seen),
            output.add_stream_from_template(read),
        )
        for packet in pictures.demux(seen):
            if packet.size:
                packet.stream = shown
                output.mux(packet)
        for line in subtitles.demux(read):
            if line.size:
                line.stream = written
                output.mux(line)
    opened = source(path)
    assert len(list(opened)) == 10
    opened.close()


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_a_file_with_sound_that_was_cut_off_is_reported(name: str, tmp_path: Path) -> None:
    opened = source(clips.truncated(clips.with_sound(tmp_path / name, 250, 10), 0.5))
    with pytest.raises(SourceError, match="cut off"):
        list(opened)
    opened.close()


def test_a_header_that_announces_more_than_there_is_in_the_index_is_no_cut(tmp_path: Path) -> None:
    path = clips.count(tmp_path / "a.mp4", 25)
    content = bytearray(path.read_bytes())
    for box, skip in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):  # version 0: the duration
        at = content.index(box) + skip
        content[at : at + 4] = (10 * int.from_bytes(content[at : at + 4], "big")).to_bytes(4, "big")
    path.write_bytes(content)
    opened = source(path)
    assert len(list(opened)) == 25
    opened.close()


def test_an_edit_list_that_trims_the_end_is_no_cut(tmp_path: Path) -> None:
    path = clips.count(tmp_path / "a.mp4", 100, encoding={"bf": "0"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12  # its first entry: segment_duration, in units of the movie's
    content[at : at + 4] = (1000).to_bytes(4, "big")
    path.write_bytes(content)
    opened = source(path)
    assert 25 <= len(list(opened)) <= 30
    opened.close()


def tracks(path: Path, *sizes: tuple[int, int], default: int | None = None) -> Path:
    """Write a video that has a track of each size (height, width), and the number of each."""
    parts = [clips.count(path.with_name(f"{n}.mkv"), 10, size=size) for n, size in enumerate(sizes)]
    with ExitStack() as stack:
        inputs = [stack.enter_context(av.open(str(part))) for part in parts]
        output = stack.enter_context(av.open(str(path), "w"))
        streams = [output.add_stream_from_template(i.streams.video[0]) for i in inputs]
        for number, stream in enumerate(streams):
            stream.disposition = Disposition.default if number == default else Disposition(0)
        packets = [
            (p, s) for i, s in zip(inputs, streams, strict=True) for p in i.demux() if p.size
        ]
        for packet, stream in sorted(packets, key=lambda pair: pair[0].dts or 0):
            packet.stream = stream
            output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("default", "height"), [(None, 96), (0, 48), (1, 96), (2, 64)], ids=["none", "0", "1", "2"]
)
def test_of_several_videos_the_default_one_is_read_else_the_largest(
    tmp_path: Path, default: int | None, height: int
) -> None:
    path = tracks(tmp_path / "a.mkv", (48, 64), (96, 128), (64, 80), default=default)
    found = pictures(path)
    assert {picture.image.pixels().shape[0] for picture in found} == {height}
    assert len(found) == 10


@pytest.mark.parametrize(
    ("pids", "late"), [((256, 300), 1), ((256, 300, 256), 2), ((256, 300, 256, 300), 3)]
)
def test_video_that_goes_on_under_another_pid_is_read_on(
    tmp_path: Path, pids: Sequence[int], late: int
) -> None:
    parts = [
        clips.count(
            tmp_path / f"{part}.ts",
            20,
            muxing={"mpegts_start_pid": str(pid)},
            encoding={"bf": "0"},
        )
        for part, pid in enumerate(pids)
    ]
    opened = source(clips.joined(tmp_path / "all.ts", *parts))
    found = [clips.number_of(picture.image.pixels()) for picture in opened]
    opened.close()
    # The last picture before a change comes too late: FFmpeg can't know that it is whole.
    assert found == late * list(range(19)) + (len(pids) - late) * list(range(20))
    assert opened.damaged == late


@pytest.mark.parametrize("pid", ["256", "300"])
@pytest.mark.parametrize("codec", ["libx265", "mpeg2video"])
def test_video_that_goes_on_in_another_coding_is_reported(
    tmp_path: Path, codec: str, pid: str
) -> None:
    first = clips.count(tmp_path / "a.ts", 50)
    muxing = {"mpegts_start_pid": pid}
    second = clips.count(tmp_path / "b.ts", 50, codec=codec, muxing=muxing)
    opened = source(clips.joined(tmp_path / "all.ts", first, second))
    with pytest.raises(SourceError, match="coded differently from its beginning"):
        list(opened)
    opened.close()


@pytest.mark.parametrize(
    "elsewhere", [{"mpegts_service_id": "7"}, {"mpegts_pmt_start_pid": "0x500"}], ids=str
)
def test_video_that_goes_on_where_it_is_not_followed_is_reported(
    tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    first = clips.count(tmp_path / "a.ts", 20)
    second = clips.count(tmp_path / "b.ts", 20, muxing={"mpegts_start_pid": "300", **elsewhere})
    opened = source(clips.joined(tmp_path / "all.ts", first, second))
    with pytest.raises(SourceError, match="its video continues in another track"):
        list(opened)
    opened.close()


@pytest.mark.parametrize(
    ("suffix", "tag", "codec"), [("avi", b"FMP4", "mpeg4"), ("mov", b"avc1", "libx264")]
)
def test_a_coding_that_has_no_decoder_is_named(
    tmp_path: Path, suffix: str, tag: bytes, codec: str
) -> None:
    path = clips.count(tmp_path / f"a.{suffix}", 5, codec=codec)
    content = path.read_bytes()
    assert tag in content
    path.write_bytes(content.replace(tag, b"HKVZ"))
    with pytest.raises(SourceError, match="its video is coded as HKVZ, which can't be decoded"):
        source(path)


@pytest.mark.parametrize("frames", [1, 2, 40])
@pytest.mark.parametrize(
    "encoding",
    [{"bf": "0"}, {"bf": "1"}, {"bf": "2", "g": "12"}, {"bf": "3", "x264-params": "b-pyramid=2"}],
    ids=str,
)
@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "libx264"), ("wmv", "libx264"), ("mkv", "libx264")]
)
def test_pictures_that_are_shown_in_another_order_have_even_times(
    tmp_path: Path, suffix: str, codec: str, encoding: dict[str, str], frames: int
) -> None:
    """AVI and ASF know only when pictures are decoded."""
    path = clips.count(tmp_path / f"a.{suffix}", frames, codec=codec, encoding=encoding)
    found = pictures(path)
    assert [clips.number_of(picture.image.pixels()) for picture in found] == [
        n % 25 for n in range(frames)
    ]
    times = [float((picture.pts or 0) * picture.time_base) for picture in found]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([0.04] * (frames - 1), abs=0.001)


def test_a_damaged_avi_loses_what_is_damaged(tmp_path: Path) -> None:
    path = clips.noise(tmp_path / "a.avi", 40, encoding={"g": "10", "bf": "2"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    assert 30 <= len(pictures(path)) <= 40


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_file_that_starts_late_is_not_cut_off(name: str, tmp_path: Path) -> None:
    opened = source(clips.count(tmp_path / name, 8, pts=range(100, 108)))
    assert len(list(opened)) == 8
    opened.close()


def test_packets_that_cannot_be_decoded_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = clips.noise(tmp_path / "a.mkv", 20, encoding={"g": "1"})
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[10]
        bad = bytes(packet)
    content = path.read_bytes()
    path.write_bytes(content.replace(bad, b"\xff" * len(bad)))
    opened = source(path)
    assert len(list(opened)) == 19
    assert opened.damaged == 1
    opened.close()


def test_a_file_may_be_a_pipe(tmp_path: Path) -> None:
    content = clips.count(tmp_path / "a.ts", 6).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    assert numbers(pipe) == list(range(6))
    writer.join()

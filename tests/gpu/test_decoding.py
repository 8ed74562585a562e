"""Decoding on a real GPU: the demo's pictures are those of the software decoder."""

import gc
import os
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import Colorspace

from centernetd.capture import decoding
from centernetd.capture.open import open_stream
from centernetd.errors import SourceError
from tests import clips
from tests.capture_rig import stream
from tests.gpu.probe import entries, on_gpu

pytestmark = on_gpu
DEMO = Path(__file__).parents[2] / "assets" / "demo.mp4"
FRAMES = 250
FARTHEST = 2  # levels between two decoders' pictures


def test_the_gpu_can_be_opened_beside_an_engine() -> None:
    assert decoding.try_gpu(0) == ""


def test_every_picture_is_that_of_software() -> None:
    own, software = (open_stream(stream(DEMO, decode=wanted)) for wanted in ("cuda", "cpu"))
    count, farthest = 0, 0
    for mine, theirs in zip(own, software, strict=True):
        away = np.abs(
            mine.image.pixels().astype(np.int16) - theirs.image.pixels().astype(np.int16)
        ).max()
        farthest = max(farthest, int(away))
        assert (mine.pts, mine.time_base) == (theirs.pts, theirs.time_base)
        count += 1
    assert (own.info.decoder, software.info.decoder) == ("h264 (cuda)", "h264")
    assert count == FRAMES
    assert farthest <= FARTHEST
    for source in (own, software):
        source.close()


@pytest.mark.parametrize("orientation", clips.ORIENTATIONS)
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_is_tagged_and_shaped_and_turned_stays_so(
    codec: str, orientation: str, tmp_path: Path
) -> None:
    (matrix, seen), aspect = clips.ORIENTATIONS[orientation], Fraction(64, 45)
    path = clips.orient(
        clips.write(
            tmp_path / "turned.mp4",
            [clips.corners((256, 320))] * 5,
            codec=codec,
            matrix=Colorspace.ITU709,
            tagged=True,
            aspect=aspect,
        ),
        matrix,
    )
    own, software = (list(open_stream(stream(path, decode=wanted))) for wanted in ("cuda", "cpu"))
    assert len(own) == 5
    for mine, theirs in zip(own, software, strict=True):
        away = np.abs(
            mine.image.pixels().astype(np.int16) - theirs.image.pixels().astype(np.int16)
        ).max()
        assert away <= FARTHEST
        assert clips.quarters(mine.image.pixels()) == seen
        assert mine.aspect == theirs.aspect == (aspect if matrix[0] else 1 / aspect)


def assert_like_software(path: Path, decoder: str) -> None:
    """Have ``decoder`` on the GPU and software decode the same pictures from ``path``."""
    sources = [open_stream(stream(path, decode=wanted)) for wanted in ("cuda", "cpu")]
    own, software = map(list, sources)
    assert len(own) == len(software) > 0
    assert sources[0].info.decoder == f"{decoder} (cuda)"
    for mine, theirs in zip(own, software, strict=True):
        assert mine.image.size == theirs.image.size
        away = mine.image.pixels().astype(np.int16) - theirs.image.pixels().astype(np.int16)
        assert np.abs(away).max() <= FARTHEST


@pytest.mark.parametrize(
    ("codec", "decoder", "pix_fmt"),
    [
        ("libvpx-vp9", "vp9", "yuv420p"),
        ("libx265", "hevc", "yuv420p10le"),
    ],
)
def test_other_codecs_and_depths(codec: str, decoder: str, pix_fmt: str, tmp_path: Path) -> None:
    path = clips.count(tmp_path / "clip.mp4", 20, (256, 320), codec=codec, pix_fmt=pix_fmt)
    assert_like_software(path, decoder)


def test_a_video_that_the_gpu_does_not_know_is_left_to_software(tmp_path: Path) -> None:
    path = clips.count(tmp_path / "444.mp4", 20, (256, 320), pix_fmt="yuv444p")
    source = open_stream(stream(path, decode="auto"))
    assert [clips.number_of(picture.image.pixels()) for picture in source] == list(range(20))
    assert source.info.decoder == "h264"
    with pytest.raises(SourceError, match="the GPU doesn't decode this h264 of 320x256"):
        list(open_stream(stream(path, decode="cuda")))


def test_opening_and_closing_leaks_nothing() -> None:
    def read() -> None:
        source = open_stream(stream(DEMO, decode="cuda"))
        assert len(list(islice(source, 3))) == 3
        source.close()

    for _ in range(5):
        read()
    gc.collect()  # what other tests have left is given back now
    before = (entries("/proc/self/fd"), entries("/proc/self/task"), _resident())
    for _ in range(40):
        read()
    gc.collect()
    after = (entries("/proc/self/fd"), entries("/proc/self/task"), _resident())
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 40 * 2**20


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

"""Videos of every awkward kind through the real command, with a network that costs nothing."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests import clips, models
from tests.event_lines import read_events
from tests.integration.process import SQUARES_SIZE, Finished, Receipt, run, write_config

FRAMES = 20
VARIABLE = [0, 1, 2, 10, 11, 30, 31, 32, 33, 90, 91, 92, 100, 101, 150, 151, 152, 153, 154, 180]
BOX = (40, 40, 80, 72)
Make = Callable[[Path], Path]


def pictures(size: tuple[int, int] = (120, 160), count: int = FRAMES) -> list[NDArray[np.uint8]]:
    return [models.draw(size, (0, BOX))] * count


def plain(path: Path, **options: Any) -> Path:
    return clips.write(path, pictures(), **options)


def of_size(height: int, width: int) -> Make:
    return lambda path: clips.write(path, pictures((height, width)), pix_fmt="yuv444p")


def two_sizes(path: Path) -> Path:
    first = clips.write(path.with_suffix(".1.ts"), pictures((120, 160)))
    second = clips.write(path.with_suffix(".2.ts"), pictures((160, 200)))
    return clips.joined(path, first, second)


def garbage(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


# name, file, what makes it, how many frames it has
GOOD: Sequence[tuple[str, str, Make, int]] = [
    ("both_odd", "both_odd.mp4", of_size(121, 161), FRAMES),
    ("odd_width", "odd_width.mp4", of_size(120, 161), FRAMES),
    ("portrait", "portrait.mp4", of_size(320, 90), FRAMES),
    ("ten_bit", "ten_bit.mp4", lambda path: plain(path, pix_fmt="yuv420p10le"), FRAMES),
    ("full_chroma", "full_chroma.mp4", lambda path: plain(path, pix_fmt="yuv444p"), FRAMES),
    ("one_frame", "one_frame.mp4", lambda path: clips.write(path, pictures(count=1)), 1),
    ("variable", "variable.mkv", lambda path: plain(path, pts=VARIABLE), FRAMES),
    ("late_start", "late_start.mkv", lambda path: plain(path, pts=range(500, 520)), FRAMES),
    ("rotated", "rotated.mp4", lambda path: clips.rotate(plain(path), 90), FRAMES),
    ("two_sizes", "two_sizes.ts", two_sizes, 2 * FRAMES),
    ("bare", "bare.h264", lambda path: plain(path, container="h264"), FRAMES),
    ("cut_off", "cut_off.mkv", lambda path: clips.truncated(clips.noise(path, 100), 0.6), -1),
]
BAD: Sequence[tuple[str, str, Make, str]] = [
    ("zero", "zero.mp4", empty, "can't be opened: the file is empty"),
    ("sound", "sound.m4a", clips.audio_only, "contains no video"),
    ("noise", "noise.mp4", garbage, "can't be opened: invalid data found when processing input"),
    ("folder", "folder", directory, "can't be opened: is a directory"),
]
GOOD_ONES = pytest.mark.parametrize(("name", "frames"), [(name, n) for name, _, _, n in GOOD])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    for _, file, make, _ in GOOD:
        make(folder / file)
    return folder


@pytest.fixture(scope="module")
def good(folder: Path, squares: Path) -> Finished:
    streams = {name: {"source": file} for name, file, _, _ in GOOD}
    return run(write_config(folder, streams, model=squares, size=SQUARES_SIZE))


def events(finished: Finished, name: str) -> list[dict[str, Any]]:
    return read_events(finished.state / f"{name}.jsonl")


def recordings(finished: Finished, name: str) -> list[Path]:
    """Return what was recorded of a stream, in order."""
    first, rest = finished.state / f"{name}.mp4", finished.state.glob(f"{name}-*.mp4")
    return [first, *sorted(rest)]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def seconds(frames: list[av.VideoFrame]) -> list[Fraction]:
    times = [(frame.pts or 0) * (frame.time_base or Fraction(0)) for frame in frames]
    return [at - times[0] for at in times]


def test_a_run_of_good_and_damaged_files_ends_well(good: Finished) -> None:
    assert good.code == 0, good.stderr
    assert not list(good.state.glob("*.part"))


@GOOD_ONES
def test_every_frame_comes_out(good: Finished, name: str, frames: int) -> None:
    receipt = good.receipts[name]
    if frames >= 0:
        assert receipt == Receipt(frames, frames, 0, 0)
    recorded = sum(len(decoded(path)) for path in recordings(good, name))
    assert recorded == receipt.captured == receipt.written > 0


@pytest.mark.parametrize("name", ["both_odd", "ten_bit", "variable", "late_start", "bare"])
def test_the_source_keeps_its_pace(good: Finished, folder: Path, name: str) -> None:
    (source,) = (file for known, file, _, _ in GOOD if known == name)
    (recording,) = recordings(good, name)
    written = seconds(decoded(recording))
    if name == "bare":  # its pictures carry no time: the rate in its header is all there is
        assert written == [Fraction(number, 25) for number in range(FRAMES)]
    else:
        assert written == seconds(decoded(folder / source))
    if name == "variable":
        assert written == [Fraction(number, 25) for number in VARIABLE]


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("both_odd", BOX),
        ("odd_width", BOX),
        ("portrait", BOX),
        ("ten_bit", BOX),
        ("full_chroma", BOX),
        ("one_frame", BOX),
        ("rotated", (40, 80, 72, 120)),
        ("two_sizes", BOX),
    ],
)
def test_boxes_are_in_source_pixels(good: Finished, name: str, box: Sequence[int]) -> None:
    for event in events(good, name):
        (seen,) = event["detections"]
        assert seen["box"] == pytest.approx(box, abs=3)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("both_odd", [(122, 162)]),
        ("odd_width", [(120, 162)]),
        ("portrait", [(320, 90)]),
        ("rotated", [(160, 120)]),
        ("two_sizes", [(120, 160), (160, 200)]),
    ],
)
def test_recordings_are_upright_and_even(
    good: Finished, name: str, sizes: Sequence[tuple[int, int]]
) -> None:
    written = [decoded(path) for path in recordings(good, name)]
    assert [{(frame.height, frame.width) for frame in frames} for frames in written] == [
        {size} for size in sizes
    ]
    assert all(frames[0].pts == 0 for frames in written)
    assert {(frame.format.name) for frames in written for frame in frames} == {"yuv420p"}


def test_what_is_readable_of_a_cut_off_file_is_processed(good: Finished) -> None:
    captured = good.receipts["cut_off"].captured
    assert 50 < captured < 70
    (warning,) = good.messages("warning", "cut_off")
    assert warning.startswith(f"cut_off.mkv: only the first {captured} frames are readable: ")
    assert good.messages("error", "cut_off") == []


def test_bad_files_are_named_and_harm_no_other(tmp_path: Path, squares: Path) -> None:
    streams = {name: {"source": make(tmp_path / file).name} for name, file, make, _ in BAD}
    streams["fine"] = {"source": plain(tmp_path / "fine.mkv").name}
    finished = run(write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE))
    assert finished.code == 1
    assert finished.receipts["fine"] == Receipt(FRAMES, FRAMES, 0, 0)
    for name, file, _, sentence in BAD:
        assert finished.receipts[name] == Receipt(0, 0, 0, 0)
        assert finished.messages("error", name) == [f"{file}: {sentence}"]
    assert {path.name for path in finished.state.glob("[!.]*")} == {"fine.mp4", "fine.jsonl"}

"""The script that tracks files of the MOTChallenge."""

from pathlib import Path

import numpy as np
import pytest

from centernetd.flow import Thresholds
from centernetd.track import TrackSettings
from scripts.track_mot import read, track

SETTINGS = TrackSettings(Thresholds(np.array([0.4], np.float32)))
STEPS = 40


def line(frame: int, x: float, score: float = 0.9) -> str:
    return f"{frame},-1,{x},50,30,80,{score},-1,-1,-1\n"


def tracked(path: Path, *lines: str) -> list[list[float]]:
    path.write_text("".join(lines))
    rows = track(read(path), 25.0, SETTINGS)
    return [[float(number) for number in row.split(",")] for row in rows]


def test_a_track_is_written_from_its_second_detection_on(tmp_path: Path) -> None:
    rows = tracked(tmp_path / "in.txt", *[line(n, 100 + 2 * n) for n in range(1, STEPS + 1)])
    assert [row[0] for row in rows] == [*range(2, STEPS + 1)]
    assert len({row[1] for row in rows}) == 1
    for frame, _, x, y, width, height, score, *rest in rows:
        assert (x, y) == pytest.approx((100 + 2 * frame, 50), abs=2)
        assert (width, height, score) == pytest.approx((30, 80, 0.9), abs=2)
        assert rest == [-1, -1, -1]


def test_frames_missing_from_the_file_get_predicted_boxes(tmp_path: Path) -> None:
    lines = [line(n, 100) for n in range(1, STEPS + 1) if n not in (20, 21)]
    rows = tracked(tmp_path / "in.txt", *reversed(lines))
    assert [row[0] for row in rows] == [*range(2, STEPS + 1)]
    assert len({row[1] for row in rows}) == 1


def test_a_file_of_every_fifth_frame_gets_no_frames_in_between(tmp_path: Path) -> None:
    frames = [n for n in range(1, 100, 5) if n != 51]
    rows = tracked(tmp_path / "in.txt", *[line(n, 100) for n in frames])
    assert [row[0] for row in rows] == [*range(6, 100, 5)]


def test_clutter_is_not_written(tmp_path: Path) -> None:
    lines = [line(n, 100) for n in range(1, STEPS + 1)]
    rows = tracked(tmp_path / "in.txt", *lines, line(10, 400), line(20, 500, score=0.3))
    assert len({row[1] for row in rows}) == 1


def test_an_empty_file_has_no_detections(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n")
    assert read(tmp_path / "in.txt") == {}


@pytest.mark.parametrize(
    "bad",
    [
        *("1,-1,2,3", "1,-1,a,3,4,5,0.9", "1,-1,nan,3,4,5,0.9", "\xff"),
        *("1,-1,1e39,3,4,5,0.9", "1000000000000,-1,2,3,4,5,0.9"),
    ],
)
def test_a_line_that_is_no_detection_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "in.txt"
    path.write_text(line(1, 100) + bad, encoding="latin-1")
    with pytest.raises(ValueError, match=r"in\.txt:2: is not frame,-1,x,y,w,h,score in numbers"):
        read(path)


def test_half_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("1.5,-1,2,3,4,5,0.9")
    with pytest.raises(ValueError, match=r"in\.txt:1: frame 1\.5 is not an integer"):
        read(path)

"""Files and sources as the command line names them."""

import os
from pathlib import Path

import pytest

from centernetd.commands.find import find_sources
from centernetd.errors import SourceError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips/more").mkdir(parents=True)
    Path("clips/folder.mp4").mkdir()
    os.mkfifo("clips/pipe.mp4")
    for name in ("b.MP4", "a.mkv", "notes.txt", "more/c.mp4"):
        Path("clips", name).touch()
    Path("a:b.mp4").touch()


@pytest.mark.parametrize(
    ("names", "sources"),
    [
        (["x.mp4"], ["x.mp4"]),
        (["./a:b.mp4"], ["./a:b.mp4"]),
        (["*.mp4"], ["./a:b.mp4"]),
        (["rtsp://h/x?y=*", "v4l2:0"], ["rtsp://h/x?y=*", "v4l2:0"]),
        (["clips"], ["clips/a.mkv", "clips/b.MP4"]),
        (["clips", "clips/b.MP4"], ["clips/a.mkv", "clips/b.MP4"]),
        (["clips/**/*.mp4"], ["clips/more/c.mp4"]),
        ([""], [""]),
    ],
)
def test_sources(names: list[str], sources: list[str]) -> None:
    assert find_sources(names) == sources


@pytest.mark.parametrize("name", ["none/*.mp4", "clips/folder.mp4", "clips/fold*"])
def test_a_folder_or_pattern_without_videos_is_an_error(name: str) -> None:
    with pytest.raises(SourceError, match="no video files"):
        find_sources([name])

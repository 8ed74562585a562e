"""Files and sources as the command line names them."""

from pathlib import Path

import pytest

from centernetd.commands.find import find_sources


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips/more").mkdir(parents=True)
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
        (["none/*.mp4"], ["none/*.mp4"]),
    ],
)
def test_sources(names: list[str], sources: list[str]) -> None:
    assert find_sources(names) == sources

"""What is no video, can't be opened or doesn't answer: one sentence, and nothing left behind."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from centernetd.capture import container
from centernetd.errors import SourceError
from tests import clips
from tests.capture_rig import video_source
from tests.test_video import pictures, source


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("No video at all. " * 500)


def cut_before_its_index(path: Path) -> None:
    clips.truncated(clips.noise(path), 0.6)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: None, "can't be opened: no such file or directory"),
        (Path.mkdir, "can't be opened: is a directory"),
        (empty, "can't be opened: the file is empty"),
        (text, "can't be opened: invalid data found when processing input"),
        (cut_before_its_index, "can't be opened: invalid data found when processing input"),
        (clips.audio_only, "contains no video"),
    ],
    ids=["missing", "folder", "empty", "text", "no index", "audio only"],
)
def test_what_is_no_video_is_reported_in_one_sentence(
    make: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(SourceError) as caught:
        source(path)
    assert str(caught.value) == sentence
    assert caught.value.reason == "open_failed"


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="contains no video"):
        source(clips.song_with_cover(tmp_path / "song.mp4"))


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat"])
def test_a_playlist_opens_no_other_file(name: str, tmp_path: Path) -> None:
    clips.count(tmp_path / "other.ts", 5)
    lists = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile other.ts\n",
    }
    (tmp_path / name).write_text(lists[name])
    with pytest.raises(SourceError, match="is a playlist"):
        source(tmp_path / name)


def test_opening_and_closing_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    good, bad = clips.count(tmp_path / "a.mp4", 3), clips.audio_only(tmp_path / "b.mp4")
    pictures(good)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        pictures(good)
        with pytest.raises(SourceError):
            source(bad)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_sends_nothing_is_given_up_within_the_timeout(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        uri = f"{scheme}://user:hunter2@127.0.0.1:{port}/cam"
        failed: list[SourceError] = []

        def connect() -> None:
            with pytest.raises(SourceError) as caught:
                video_source(uri, 0.5)
            failed.append(caught.value)

        trying = threading.Thread(target=connect, daemon=True)
        trying.start()
        trying.join(15)
        assert not trying.is_alive()
    assert failed[0].reason == "unreachable"
    assert "hunter2" not in str(failed[0])


def test_a_refused_connection_is_reported_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceError, match="can't be opened: connection refused") as caught:
        video_source(f"rtsp://user:hunter2@127.0.0.1:{port}/cam")
    assert "hunter2" not in str(caught.value)


def test_a_picture_beyond_all_cameras_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    opened = source(clips.jpeg(tmp_path / "huge.jpg", 11_000, 11_000))
    with pytest.raises(SourceError, match=r"pictures of more than 37\.7 million pixels"):
        list(opened)
    opened.close()


def test_a_size_that_is_announced_and_too_large_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(SourceError, match="is 64x48, and pictures of more than"):
        source(clips.count(tmp_path / "a.mp4", 3))


def test_of_a_video_that_becomes_too_large_the_rest_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(48, 64), (96, 128)]
    parts = [clips.count(tmp_path / f"{n}.ts", 8, size) for n, size in enumerate(sizes)]
    monkeypatch.setitem(container.SIZE_LIMIT, "max_pixels", str(64 * 64))
    opened = source(clips.joined(tmp_path / "all.ts", *parts))
    assert [picture.image.pixels().shape for picture in opened] == [(48, 64, 3)] * 8
    assert opened.damaged == 8
    opened.close()

"""The storage root: made, tried, locked, and never left."""

import os
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from centernetd.errors import SinkError, StartupError
from centernetd.sink.file import OutputFile, part_of, unused
from centernetd.sink.storage import Storage
from tests.fakes import WAIT_TIMEOUT
from tests.sinks import NOON, file_size_limit


def test_creates_the_root(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "a" / "b")
    storage.claim()
    assert storage.root.is_dir()
    storage.release()


def test_a_root_in_use_is_refused_until_it_is_free(tmp_path: Path) -> None:
    first, second = Storage(tmp_path), Storage(tmp_path)
    first.claim()
    with pytest.raises(StartupError, match=f"another centernetd writes to {tmp_path}"):
        second.claim()
    first.release()
    second.claim()
    second.release()


@pytest.mark.parametrize("root", ["/proc/none", "/dev/null/sub"])
def test_a_root_that_cannot_be_written_to_is_refused(root: str) -> None:
    with pytest.raises(StartupError, match=rf"storage.root {root} can't be written to"):
        Storage(Path(root)).claim()


def test_places_files_by_stream_and_utc_time(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    path = storage.place("{stream}/%Y-%m-%d/%H-%M-%S.mp4", "gate", NOON)
    assert path == tmp_path / "gate/2023-11-14/22-00-00.mp4"
    assert path.parent.is_dir()


@pytest.mark.parametrize("template", ["../{stream}.mp4", "link/{stream}.mp4", "gate.mp4"])
def test_nothing_leads_out_of_the_root(tmp_path: Path, template: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "gate.mp4").symlink_to(outside / "gate.mp4")
    with pytest.raises(SinkError, match=r"leads out of storage\.root"):
        Storage(root).place(template, "gate", NOON)


def test_a_folder_that_cannot_be_made_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "gate").write_bytes(b"a file where the folder should be")
    with pytest.raises(SinkError, match="can't be written"):
        Storage(tmp_path).place("{stream}/a.mp4", "gate", NOON)


@pytest.mark.parametrize("hung", ["realpath", "mkdir", "unlink", "rmdir"])
def test_a_call_that_hangs_holds_up_its_own_stream_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: str
) -> None:
    storage, let_go, called = Storage(tmp_path), threading.Event(), threading.Event()
    old = tmp_path / "hung/old.mp4"
    owner: Any = os.path if hung == "realpath" else Path
    real = getattr(owner, hung)

    def hang(path: Path, *args: Any, **kwargs: Any) -> Any:
        if "hung" in Path(path).parts:
            called.set()
            assert let_go.wait(WAIT_TIMEOUT)
        return real(path, *args, **kwargs)

    if hung in ("unlink", "rmdir"):
        old.parent.mkdir()
        old.touch()
        use: Callable[[], Any] = lambda: storage.remove(old)  # noqa: E731
    else:
        use = lambda: storage.place("{stream}/a.mp4", "hung", NOON)  # noqa: E731
    monkeypatch.setattr(owner, hung, hang)
    user = threading.Thread(target=use, daemon=True)
    user.start()
    assert called.wait(WAIT_TIMEOUT)
    other = threading.Thread(target=lambda: use_storage(storage, "well"), daemon=True)
    other.start()
    other.join(WAIT_TIMEOUT)
    assert not other.is_alive()
    let_go.set()
    user.join(WAIT_TIMEOUT)
    assert not user.is_alive()


def use_storage(storage: Storage, stream: str) -> None:
    path = storage.place("{stream}/a.mp4", stream, NOON)
    storage.begin(path)
    assert path in storage.writing
    storage.end(path, None)


def test_a_folder_is_created_although_its_parent_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, gone = Path.mkdir, list[Path]()

    def take_away(path: Path, *args: Any, **kwargs: Any) -> None:
        mkdir(path, *args, **kwargs)
        if path.name == "gate" and not gone:
            gone.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", take_away)
    path = Storage(tmp_path).place("{stream}/%Y/a.mp4", "gate", NOON)
    assert gone
    assert path.parent.is_dir()


def test_a_file_that_is_just_being_deleted_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, path = Storage(tmp_path), tmp_path / "gate.jsonl"
    path.touch()

    def begin_it(_: Path, **__: object) -> None:
        with pytest.raises(SinkError, match="is being deleted"):
            storage.begin(path)

    monkeypatch.setattr(Path, "unlink", begin_it)
    assert storage.remove(path)
    storage.begin(path)


def test_a_name_that_exists_or_is_begun_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "gate.mp4"
    assert unused(path) == path
    part_of(path).touch()
    assert unused(path) == tmp_path / "gate-1.mp4"
    (tmp_path / "gate-1.mp4").symlink_to("nowhere")
    assert unused(path) == tmp_path / "gate-2.mp4"


def test_a_full_disk_is_reported_immediately_in_the_systems_words(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "file", "a")
    file._file.close()
    file._file = FileIO("/dev/full", "w")
    with pytest.raises(SinkError, match="file can't be written: No space left on device"):
        file.write(b"x")
    file.abandon()
    file.abandon()
    assert file.closed


def test_a_limit_of_the_file_system_is_reported_as_such(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "file", "x")
    with (
        file_size_limit(10),
        pytest.raises(SinkError, match=r"can't be written: its file system, or a limit .* larger"),
    ):
        file.write(bytes(11))
    file.close()


def test_what_others_do_to_an_open_file_is_seen(tmp_path: Path) -> None:
    def written(name: str) -> OutputFile:
        file = OutputFile(tmp_path / name, "x")
        file.write(b"12345")
        file.mark_whole()
        assert file.is_intact
        return file

    deleted, moved, cut, replaced = map(written, ("deleted", "moved", "cut", "replaced"))
    deleted.path.unlink()
    moved.path.rename(tmp_path / "elsewhere")
    os.truncate(cut.path, 3)
    replaced.path.unlink()
    replaced.path.symlink_to(tmp_path / "elsewhere")
    for file in (deleted, moved, cut, replaced):
        assert not file.is_intact
        assert not file.abandon()
    assert cut.path.read_bytes() == b"123", "nothing is put in the place of what is gone"


def test_an_abandoned_file_is_cut_back_to_what_is_whole(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "file", "x")
    file.write(b"whole")
    file.mark_whole()
    file.write(b" torn")
    file.abandon()
    assert (tmp_path / "file").read_bytes() == b"whole"

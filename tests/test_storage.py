"""The storage root: made, tried, locked, and never left."""

from pathlib import Path

import pytest

from daemon.errors import SinkError, StartupError
from daemon.sink.file import OutputFile, part_of, unused
from daemon.sink.storage import Storage
from tests.sinks import NOON


def test_creates_the_root(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "a" / "b")
    storage.open()
    assert storage.root.is_dir()
    storage.close()


def test_a_root_in_use_is_refused_until_it_is_free(tmp_path: Path) -> None:
    first, second = Storage(tmp_path), Storage(tmp_path)
    first.open()
    with pytest.raises(StartupError, match=f"another centernetd writes to {tmp_path}"):
        second.open()
    first.close()
    second.open()
    second.close()


@pytest.mark.parametrize("root", ["/proc/none", "/dev/null/sub"])
def test_a_root_that_cannot_be_written_to_is_refused(root: str) -> None:
    with pytest.raises(StartupError, match=rf"storage.root {root} can't be written to"):
        Storage(Path(root)).open()


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


def test_a_name_that_exists_or_is_begun_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "gate.mp4"
    assert unused(path) == path
    part_of(path).touch()
    assert unused(path) == tmp_path / "gate-1.mp4"
    (tmp_path / "gate-1.mp4").symlink_to("nowhere")
    assert unused(path) == tmp_path / "gate-2.mp4"


def test_a_full_disk_is_told_at_once_in_the_systems_words() -> None:
    file = OutputFile(Path("/dev/full"), "a")
    with pytest.raises(SinkError, match="/dev/full can't be written: No space left on device"):
        file.write(b"x")
    file.abandon()
    file.abandon()
    assert file.closed


def test_an_abandoned_file_is_cut_back_to_what_is_whole(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "file", "x")
    file.write(b"whole")
    file.keep()
    file.write(b" torn")
    file.abandon()
    assert (tmp_path / "file").read_bytes() == b"whole"

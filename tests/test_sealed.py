"""Files that end with a seal, what may happen to them, and how they are written."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from centernetd.errors import ModelError, StartupError
from centernetd.model import durable, sealed
from tests import models

CONTENT = os.urandom(10_000)
ABOUT = {"key": "abc"}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    sealed.write(tmp_path / "cache" / "kept", CONTENT, ABOUT)
    return tmp_path / "cache" / "kept"


def test_what_was_written_is_read(kept: Path) -> None:
    assert sealed.read(kept) == (CONTENT, ABOUT)
    assert [path.name for path in kept.parent.iterdir()] == ["kept"]


@pytest.mark.parametrize("content", [b"", b"x", sealed.seal(b"", "{}"), b"\n\x0fcenternetd.seal"])
def test_any_content_can_be_sealed(content: bytes, tmp_path: Path) -> None:
    sealed.write(tmp_path / "kept", content, ABOUT)
    assert sealed.read(tmp_path / "kept") == (content, ABOUT)


def test_a_sealed_model_is_a_model(tmp_path: Path) -> None:
    model = models.squares((64, 64))
    sealed.write(tmp_path / "model.onnx", model.SerializeToString(), ABOUT)
    loaded = onnx.load(tmp_path / "model.onnx")
    assert loaded.graph == model.graph
    assert [entry.key for entry in loaded.metadata_props] == [sealed.KEY]


@pytest.mark.parametrize("at", [0, 5000, 9999, 10_000, 10_005, 10_030, -65, -64, -1])
def test_a_flipped_bit_anywhere_is_noticed(at: int, kept: Path) -> None:
    file = bytearray(kept.read_bytes())
    file[at] ^= 1
    kept.write_bytes(file)
    with pytest.raises(ModelError, match="it is damaged or incomplete"):
        sealed.read(kept)


@pytest.mark.parametrize("size", [0, 1, 5000, 10_000, 10_050, -1])
def test_a_file_that_was_cut_is_noticed(size: int, kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:size])
    with pytest.raises(ModelError, match="it is damaged or incomplete"):
        sealed.read(kept)


@pytest.mark.parametrize(("begin", "end"), [(0, 4096), (4096, 8192), (0, 10_000), (4096, None)])
def test_a_hole_is_noticed(begin: int, end: int | None, kept: Path) -> None:
    file = kept.read_bytes()
    hole = file[begin:end]
    kept.write_bytes(file[:begin] + bytes(len(hole)) + file[begin + len(hole) :])
    with pytest.raises(ModelError, match="it is damaged or incomplete"):
        sealed.read(kept)


def test_what_was_appended_is_noticed(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="it is damaged or incomplete"):
        sealed.read(kept)


Call = tuple[str, object]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What is asked of the disk, in order."""
    done: list[Call] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))

    def noted_replace(path: Path, target: Path) -> Path:
        done.append(("rename", target.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    return done


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_all_else(
    calls: list[Call], tmp_path: Path
) -> None:
    with durable.replacing(tmp_path / "new" / "folder" / "file") as part:
        part.write_bytes(b"")
        assert not calls
    order = ["folder", "new", tmp_path.name]
    assert calls[:2] == [("sync", "file"), ("rename", "file")]
    assert sorted(calls[2:]) == sorted(("sync", name) for name in order)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (ModelError("no"), ModelError),
        (OSError(errno.ENOSPC, "No space left"), StartupError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_fails_leaves_what_was_there_and_nothing_else(
    failure: BaseException, raised: type[BaseException], kept: Path
) -> None:
    def fail() -> None:
        with durable.replacing(kept) as part:
            part.write_bytes(b"half")
            raise failure

    with pytest.raises(raised):
        fail()
    assert [path.name for path in kept.parent.iterdir()] == ["kept"]
    assert sealed.read(kept) == (CONTENT, ABOUT)


KILLED = """
import os, signal, sys
from pathlib import Path
from centernetd.model import durable
with durable.replacing(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    print(part.parent, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(kept: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(kept)]
    assert subprocess.run([*command, "dies"], check=False).returncode < 0
    with subprocess.Popen([*command, "lives"], stdin=-1, stdout=-1, text=True) as living:
        assert living.stdout is not None
        assert living.stdin is not None
        in_use = Path(living.stdout.readline().strip())
        durable.sweep(kept.parent)
        assert set(kept.parent.iterdir()) == {kept, in_use}
        living.stdin.close()
        assert living.wait(60) == 0
    assert kept.read_bytes() == b"half"


def test_nothing_of_others_is_swept_away(kept: Path, tmp_path: Path, closed: Path) -> None:
    others = kept.parent / ".centernetd-file"
    others.touch()
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (kept.parent / ".centernetd-link").symlink_to(treasure)
    (kept.parent / "folder").mkdir()
    before = set(kept.parent.iterdir())
    durable.sweep(kept.parent)
    durable.sweep(tmp_path / "no folder")
    durable.sweep(closed)
    durable.sweep(closed / "folder")
    assert set(kept.parent.iterdir()) == before
    assert treasure.is_dir()


def test_a_folder_that_is_swept_away_before_it_is_locked_is_made_again(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, swept = fcntl.flock, list[Path]()

    def late(descriptor: int, kind: int) -> None:
        if not swept:
            swept.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            swept[0].rmdir()
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with durable.replacing(kept) as part:
        part.write_bytes(b"new")
    assert kept.read_bytes() == b"new"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: (path / "lost").mkdir(parents=True)])
def test_a_folder_in_its_place_makes_way(make: Callable[[Path], None], kept: Path) -> None:
    kept.unlink()
    make(kept)
    durable.make_way(kept)
    sealed.write(kept, CONTENT, ABOUT)
    assert sealed.read(kept) == (CONTENT, ABOUT)


def test_a_file_and_a_link_need_not_make_way(kept: Path, tmp_path: Path) -> None:
    durable.make_way(kept)
    link = tmp_path / "link"
    link.symlink_to(kept.parent)
    durable.make_way(link)
    assert sealed.read(link / "kept") == (CONTENT, ABOUT)


def test_others_may_not_write_to_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        sealed.write(tmp_path / "kept", CONTENT, ABOUT)
    finally:
        os.umask(before)
    assert (tmp_path / "kept").stat().st_mode & 0o022 == 0

"""The model file that a configuration's path resolves to."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from centernetd.errors import ModelError, StartupError, StoppedError
from centernetd.model import manifest as manifests
from centernetd.model import zoo
from centernetd.model.progress import LoggedProgress, Progress
from centernetd.prepare import isolated, store
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import damages, exports, models
from tests.damages import Damage, holed

SIZE = (64, 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a raw export and a prepared model."""
    raw = exports.write(models.squares(SIZE), tmp_path / "raw.onnx")
    prepare(raw, tmp_path / "prepared.onnx", PrepareOptions())
    return tmp_path


def resolve(
    folder: Path,
    path: str,
    input_size: tuple[int, int] | None = None,
    labels: tuple[str, ...] | None = None,
) -> Path:
    asked = store.Request(path, folder, folder / "cache", input_size, labels)
    found = store.resolve(asked)
    assert found == manifests.load(found.path)
    return found.path


def test_an_export_is_prepared_once(folder: Path) -> None:
    prepared = resolve(folder, "raw.onnx")
    assert prepared.parent == folder / "cache" / "prepared"
    assert manifests.read(prepared).layout == "ctdet"
    written = prepared.stat()
    assert resolve(folder, str(folder / "raw.onnx")) == prepared
    assert prepared.stat() == written


def test_what_is_at_hand_is_found_and_nothing_is_made(folder: Path) -> None:
    asked = store.Request("raw.onnx", folder, folder / "cache")
    assert store.if_prepared(asked) is None
    assert not (folder / "cache").exists()
    prepared = store.resolve(asked)
    assert store.if_prepared(asked) == prepared
    prepared.path.write_bytes(prepared.path.read_bytes()[:-1])
    assert store.if_prepared(asked) is None, "cut off"
    named = store.Request("prepared.onnx", folder, folder)
    assert store.if_prepared(named) == manifests.load(folder / "prepared.onnx")
    assert store.if_prepared(store.Request("centerface", folder, folder)) is None
    with pytest.raises(ModelError, match=r"no\.onnx"):
        store.if_prepared(store.Request("no.onnx", folder, folder))


def test_other_options_or_another_export_are_prepared_separately(folder: Path) -> None:
    first = resolve(folder, "raw.onnx")
    larger = resolve(folder, "raw.onnx", input_size=(128, 96))
    labelled = resolve(folder, "raw.onnx", labels=models.LABELS)
    exports.write(models.squares(SIZE, activated=True), folder / "raw.onnx")
    renewed = resolve(folder, "raw.onnx")
    assert len({first, larger, labelled, renewed}) == 4
    assert manifests.read(larger).input_size == (128, 96)
    assert manifests.read(labelled).labels == models.LABELS


def test_a_prepared_model_is_used_as_it_is(folder: Path) -> None:
    assert resolve(folder, "prepared.onnx") == folder / "prepared.onnx"
    assert resolve(folder, "prepared.onnx", input_size=SIZE) == folder / "prepared.onnx"
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("damage", [holed, damages.cut])
def test_a_prepared_model_that_is_damaged_is_refused(damage: Damage, folder: Path) -> None:
    damage(folder / "prepared.onnx")
    with pytest.raises(ModelError, match=r"prepared\.onnx: "):
        resolve(folder, "prepared.onnx")


def test_a_prepared_model_gets_the_labels_asked_for(folder: Path) -> None:
    labelled = resolve(folder, "prepared.onnx", labels=models.LABELS)
    assert labelled.parent == folder / "cache" / "prepared"
    assert manifests.read(labelled).labels == models.LABELS
    assert resolve(folder, str(labelled), labels=models.LABELS) == labelled


def test_a_prepared_model_of_another_size_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"prepared\.onnx: .* for an input of 64x64"):
        resolve(folder, "prepared.onnx", input_size=(128, 128))


@pytest.mark.parametrize("path", ["missing.onnx", "cache.txt"])
def test_what_is_no_model(path: str, folder: Path) -> None:
    (folder / "cache.txt").write_text("no model")
    with pytest.raises(ModelError, match=path):
        resolve(folder, path)


def test_a_word_that_is_neither_built_in_nor_a_file_gets_those_that_are(folder: Path) -> None:
    with pytest.raises(ModelError) as refused:
        resolve(folder, "yolo")
    assert str(refused.value) == (
        f"{folder}/yolo: no such model file; built in are centerface, coco"
    )
    (folder / "squares").hardlink_to(folder / "prepared.onnx")
    assert resolve(folder, "squares") == folder / "squares"


def test_a_built_in_model_must_have_been_fetched(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"centerface: .*run `centernetd fetch centerface`"):
        resolve(folder, "centerface")


@pytest.mark.parametrize("path", ["raw.onnx", "centerface"])
@pytest.mark.parametrize("cache", ["closed", "closed/cache", "raw.onnx"])
def test_a_cache_that_can_not_be_read(path: str, cache: str, folder: Path, closed: Path) -> None:
    request = store.Request(path, folder, folder / cache)
    why = "Permission denied" if closed.name in cache else "Not a directory"
    for use in (store.resolve, store.if_prepared):
        with pytest.raises(StartupError) as refused:
            use(request)
        assert str(refused.value) == (
            f"{folder}/{cache}/prepared: this cache folder can't be read: {why}; let this user "
            "read it, or set CACHE_DIRECTORY to another"
        )


def test_fetched_models_that_can_not_be_read(folder: Path, closed: Path) -> None:
    models = zoo.location("centerface", folder / "cache").parent
    models.parent.mkdir()
    models.symlink_to(closed)
    with pytest.raises(StartupError, match="/models: this cache folder can't be read: Permission"):
        resolve(folder, "centerface")


def test_a_built_in_model_is_prepared_from_the_cache(folder: Path, centerface: Path) -> None:
    there = zoo.location("centerface", folder / "cache")
    there.parent.mkdir(parents=True)
    shutil.copy(centerface, there)
    manifest = manifests.read(resolve(folder, "centerface", input_size=(96, 64)))
    assert (manifest.layout, manifest.labels) == ("centerface", ("face",))
    assert manifest.input_size == (96, 64)


def test_an_export_is_prepared_in_the_precision_asked_for(folder: Path) -> None:
    def precision_of(path: str, **asked: str) -> str:
        request = store.Request(path, folder, folder / "cache", **asked)  # type: ignore[arg-type]
        return store.resolve(request).manifest.precision

    assert precision_of("raw.onnx") == "float32"
    assert precision_of("raw.onnx", precision_of_exports="float16") == "float16"
    assert (
        precision_of("raw.onnx", precision="float32", precision_of_exports="float16") == "float32"
    )
    assert precision_of("prepared.onnx", precision_of_exports="float16") == "float32"
    with pytest.raises(ModelError, match=r"prepared\.onnx: it is prepared already, in float32"):
        precision_of("prepared.onnx", precision="float16")


@pytest.mark.parametrize("damage", damages.OF_MODELS)
def test_a_damaged_model_in_the_cache_is_prepared_again(
    damage: Damage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")  # a slow machine also logs its progress
    prepared = resolve(folder, "raw.onnx")
    assert not caplog.messages
    before = prepared.read_bytes()
    damage(prepared)
    assert resolve(folder, "raw.onnx") == prepared
    (message,) = caplog.messages
    assert message.startswith(f"preparing {prepared} again, because ")
    assert prepared.read_bytes() == before
    assert list(prepared.parent.iterdir()) == [prepared]
    written = prepared.stat()
    resolve(folder, "raw.onnx")
    assert prepared.stat() == written, "it is whole now"


def test_a_full_disk_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(isolated, "_start", full)
    with pytest.raises(
        StartupError, match=r"cache/prepared/raw-\w+\.onnx: can't be written: No sp"
    ):
        resolve(folder, "raw.onnx")
    assert list((folder / "cache/prepared").iterdir()) == []


def test_a_disk_that_is_full_in_the_other_process_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_size(monkeypatch)
    with pytest.raises(
        StartupError, match=r"cache/prepared/raw-\w+\.onnx: can't be written: File t"
    ):
        resolve(folder, "raw.onnx")
    assert list((folder / "cache/prepared").iterdir()) == []


def limit_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process that prepares write no file of more than 100 bytes."""
    popen = subprocess.Popen

    def limited(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return popen(["prlimit", "--fsize=100", *command], **options)

    monkeypatch.setattr(subprocess, "Popen", limited)


def test_a_preparation_can_be_stopped_and_leaves_nothing(folder: Path) -> None:
    looks = iter([False, False, True])
    with pytest.raises(StoppedError):
        prepare_under(folder, LoggedProgress(stopping=lambda: next(looks)))
    assert list((folder / "cache/prepared").iterdir()) == []
    assert list((folder / "temporary").iterdir()) == []


def test_a_preparation_that_is_killed_is_one_sentence_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = isolated._start

    def killed(temporary: Path) -> "subprocess.Popen[bytes]":
        process = start(temporary)
        process.kill()
        return process

    monkeypatch.setattr(isolated, "_start", killed)
    with pytest.raises(StartupError, match=r"raw\.onnx: preparing it was ended by SIGKILL"):
        prepare_under(folder)
    assert list((folder / "cache/prepared").iterdir()) == []


def prepare_under(folder: Path, progress: Progress | None = None) -> Path:
    """Resolve with a temporary folder of its own, in which nothing may be left."""
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "temporary"))
        return store.resolve(store.Request("raw.onnx", folder, folder / "cache"), progress).path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_the_whole_group_are_left_to_the_parent(
    number: signal.Signals, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = isolated._start

    def signalled(temporary: Path) -> "subprocess.Popen[bytes]":
        process = start(temporary)
        process.send_signal(number)
        return process

    monkeypatch.setattr(isolated, "_start", signalled)
    assert manifests.read(resolve(folder, "raw.onnx")).layout == "ctdet"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & isolated._SIGNALS, (
        "here they are heard"
    )


PARENT = """
import os, signal, sys
from pathlib import Path
from centernetd.prepare import store
from centernetd.model.progress import LoggedProgress
folder = Path(sys.argv[1])
def stopping():
    if list(folder.glob("cache/prepared/.*/*.onnx")):  # the network runs
        os.kill(os.getpid(), signal.SIGKILL)
    return False
asked = store.Request("endless.onnx", folder, folder / "cache")
store.resolve(asked, LoggedProgress(stopping=stopping))
"""


def test_a_preparation_ends_with_its_parent_and_the_next_start_removes_what_is_left(
    folder: Path,
) -> None:
    exports.write(models.endless(SIZE), folder / "endless.onnx")
    parent = [sys.executable, "-c", PARENT, str(folder)]
    # Its output ends when both processes have ended.
    done = subprocess.run(parent, capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((folder / "cache/prepared").iterdir())
    prepared = resolve(folder, "raw.onnx")
    assert list(prepared.parent.iterdir()) == [prepared]


def test_other_options_never_share_a_file(folder: Path) -> None:
    prepared = resolve(folder, "raw.onnx")
    larger = resolve(folder, "raw.onnx", input_size=(128, 96))
    shutil.copy(larger, prepared)  # a whole file, and the wrong one
    assert manifests.read(resolve(folder, "raw.onnx")).input_size == SIZE


FETCHED = [damage for damage in damages.OF_MODELS if damage is not damages.unsealed]  # it has none


@pytest.fixture
def fetched(folder: Path, centerface: Path) -> Path:
    """The built-in model as it was fetched."""
    path = zoo.location("centerface", folder / "cache")
    path.parent.mkdir(parents=True)
    shutil.copy(centerface, path)
    return path


@pytest.mark.parametrize("damage", FETCHED)
def test_a_damaged_built_in_model_is_never_prepared_and_not_a_refusal_for_good(
    damage: Damage, folder: Path, fetched: Path
) -> None:
    damage(fetched)
    with pytest.raises(
        StartupError, match=r"centerface\.onnx: .* can't be used: .*run `centernetd fetch"
    ):
        resolve(folder, "centerface", input_size=(96, 64))
    assert not list((folder / "cache").glob("prepared/*"))


def test_a_built_in_model_that_is_prepared_needs_no_fetched_file(
    folder: Path, fetched: Path
) -> None:
    prepared = resolve(folder, "centerface", input_size=(96, 64))
    fetched.write_bytes(bytes(100))
    assert resolve(folder, "centerface", input_size=(96, 64)) == prepared
    fetched.unlink()
    assert resolve(folder, "centerface", input_size=(96, 64)) == prepared
    holed(prepared)
    with pytest.raises(ModelError, match="run `centernetd fetch centerface`"):
        resolve(folder, "centerface", input_size=(96, 64))

"""What a config's model path stands for."""

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
def house(tmp_path: Path) -> Path:
    """A folder with a raw export and a prepared model."""
    raw = exports.write(models.squares(SIZE), tmp_path / "raw.onnx")
    prepare(raw, tmp_path / "prepared.onnx", PrepareOptions())
    return tmp_path


def resolve(
    house: Path,
    path: str,
    input_size: tuple[int, int] | None = None,
    labels: tuple[str, ...] | None = None,
) -> Path:
    asked = store.Request(path, house, house / "cache", input_size, labels)
    found = store.resolve(asked)
    assert found == manifests.load(found.path)
    return found.path


def test_an_export_is_prepared_once(house: Path) -> None:
    prepared = resolve(house, "raw.onnx")
    assert prepared.parent == house / "cache" / "prepared"
    assert manifests.read(prepared).layout == "ctdet"
    written = prepared.stat()
    assert resolve(house, str(house / "raw.onnx")) == prepared
    assert prepared.stat() == written


def test_what_is_at_hand_is_found_and_nothing_is_made(house: Path) -> None:
    asked = store.Request("raw.onnx", house, house / "cache")
    assert store.if_prepared(asked) is None
    assert not (house / "cache").exists()
    prepared = store.resolve(asked)
    assert store.if_prepared(asked) == prepared
    prepared.path.write_bytes(prepared.path.read_bytes()[:-1])
    assert store.if_prepared(asked) is None, "cut off"
    named = store.Request("prepared.onnx", house, house)
    assert store.if_prepared(named) == manifests.load(house / "prepared.onnx")
    assert store.if_prepared(store.Request("centerface", house, house)) is None
    with pytest.raises(ModelError, match=r"no\.onnx"):
        store.if_prepared(store.Request("no.onnx", house, house))


def test_other_options_or_another_export_are_prepared_separately(house: Path) -> None:
    first = resolve(house, "raw.onnx")
    larger = resolve(house, "raw.onnx", input_size=(128, 96))
    labelled = resolve(house, "raw.onnx", labels=models.LABELS)
    exports.write(models.squares(SIZE, activated=True), house / "raw.onnx")
    renewed = resolve(house, "raw.onnx")
    assert len({first, larger, labelled, renewed}) == 4
    assert manifests.read(larger).input_size == (128, 96)
    assert manifests.read(labelled).labels == models.LABELS


def test_a_prepared_model_is_used_as_it_is(house: Path) -> None:
    assert resolve(house, "prepared.onnx") == house / "prepared.onnx"
    assert resolve(house, "prepared.onnx", input_size=SIZE) == house / "prepared.onnx"
    assert not (house / "cache").exists()


@pytest.mark.parametrize("damage", [holed, damages.cut])
def test_a_prepared_model_that_is_damaged_is_refused(damage: Damage, house: Path) -> None:
    damage(house / "prepared.onnx")
    with pytest.raises(ModelError, match=r"prepared\.onnx: "):
        resolve(house, "prepared.onnx")


def test_a_prepared_model_gets_the_labels_asked_for(house: Path) -> None:
    labelled = resolve(house, "prepared.onnx", labels=models.LABELS)
    assert labelled.parent == house / "cache" / "prepared"
    assert manifests.read(labelled).labels == models.LABELS
    assert resolve(house, str(labelled), labels=models.LABELS) == labelled


def test_a_prepared_model_of_another_size_is_refused(house: Path) -> None:
    with pytest.raises(ModelError, match=r"prepared\.onnx: .* for an input of 64x64"):
        resolve(house, "prepared.onnx", input_size=(128, 128))


@pytest.mark.parametrize("path", ["missing.onnx", "cache.txt"])
def test_what_is_no_model(path: str, house: Path) -> None:
    (house / "cache.txt").write_text("no model")
    with pytest.raises(ModelError, match=path):
        resolve(house, path)


def test_a_built_in_model_must_have_been_fetched(house: Path) -> None:
    with pytest.raises(ModelError, match=r"centerface: .*run `centernetd fetch centerface`"):
        resolve(house, "centerface")


def test_a_built_in_model_is_prepared_from_the_cache(house: Path, centerface: Path) -> None:
    there = zoo.location("centerface", house / "cache")
    there.parent.mkdir(parents=True)
    shutil.copy(centerface, there)
    manifest = manifests.read(resolve(house, "centerface", input_size=(96, 64)))
    assert (manifest.layout, manifest.labels) == ("centerface", ("face",))
    assert manifest.input_size == (96, 64)


def test_an_export_is_prepared_in_the_precision_asked_for(house: Path) -> None:
    def precision_of(path: str, **asked: str) -> str:
        request = store.Request(path, house, house / "cache", **asked)  # type: ignore[arg-type]
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
    damage: Damage, house: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = resolve(house, "raw.onnx")
    assert not caplog.messages
    before = prepared.read_bytes()
    damage(prepared)
    assert resolve(house, "raw.onnx") == prepared
    (said,) = caplog.messages
    assert said.startswith(f"preparing {prepared} again, because ")
    assert prepared.read_bytes() == before
    assert list(prepared.parent.iterdir()) == [prepared]
    written = prepared.stat()
    resolve(house, "raw.onnx")
    assert prepared.stat() == written, "it is whole now"


def test_a_full_disk_is_one_sentence(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(isolated, "_start", full)
    with pytest.raises(
        StartupError, match=r"cache/prepared/raw-\w+\.onnx: can't be written: No sp"
    ):
        resolve(house, "raw.onnx")
    assert list((house / "cache/prepared").iterdir()) == []


def test_a_disk_that_is_full_in_the_other_process_is_one_sentence(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_size(monkeypatch)
    with pytest.raises(
        StartupError, match=r"cache/prepared/raw-\w+\.onnx: can't be written: File t"
    ):
        resolve(house, "raw.onnx")
    assert list((house / "cache/prepared").iterdir()) == []


def limit_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process that prepares write no file of more than 100 bytes."""
    popen = subprocess.Popen

    def limited(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return popen(["prlimit", "--fsize=100", *command], **options)

    monkeypatch.setattr(subprocess, "Popen", limited)


def test_a_preparation_can_be_stopped_and_leaves_nothing(house: Path) -> None:
    looks = iter([False, False, True])
    with pytest.raises(StoppedError):
        prepare_under(house, LoggedProgress(stopping=lambda: next(looks)))
    assert list((house / "cache/prepared").iterdir()) == []
    assert list((house / "temporary").iterdir()) == []


def test_a_preparation_that_is_killed_is_one_sentence_and_leaves_nothing(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = isolated._start

    def killed(temporary: Path) -> "subprocess.Popen[bytes]":
        process = start(temporary)
        process.kill()
        return process

    monkeypatch.setattr(isolated, "_start", killed)
    with pytest.raises(StartupError, match=r"raw\.onnx: preparing it was ended by SIGKILL"):
        prepare_under(house)
    assert list((house / "cache/prepared").iterdir()) == []


def prepare_under(house: Path, progress: Progress | None = None) -> Path:
    """Resolve with a temporary folder of its own, in which nothing may be left."""
    (house / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(house / "temporary"))
        return store.resolve(store.Request("raw.onnx", house, house / "cache"), progress).path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_the_whole_group_are_left_to_the_parent(
    number: signal.Signals, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = isolated._start

    def signalled(temporary: Path) -> "subprocess.Popen[bytes]":
        process = start(temporary)
        process.send_signal(number)
        return process

    monkeypatch.setattr(isolated, "_start", signalled)
    assert manifests.read(resolve(house, "raw.onnx")).layout == "ctdet"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & isolated._SIGNALS, (
        "here they are heard"
    )


PARENT = """
import os, signal, sys
from pathlib import Path
from centernetd.prepare import store
from centernetd.model.progress import LoggedProgress
house = Path(sys.argv[1])
def stopping():
    if list(house.glob("cache/prepared/.*/*.onnx")):  # the network runs
        os.kill(os.getpid(), signal.SIGKILL)
    return False
asked = store.Request("endless.onnx", house, house / "cache")
store.resolve(asked, LoggedProgress(stopping=stopping))
"""


def test_a_preparation_ends_with_its_parent_and_the_next_start_removes_what_is_left(
    house: Path,
) -> None:
    exports.write(models.endless(SIZE), house / "endless.onnx")
    parent = [sys.executable, "-c", PARENT, str(house)]
    # Its output ends when both processes have ended.
    done = subprocess.run(parent, capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((house / "cache/prepared").iterdir())
    prepared = resolve(house, "raw.onnx")
    assert list(prepared.parent.iterdir()) == [prepared]


def test_other_options_never_share_a_file(house: Path) -> None:
    prepared = resolve(house, "raw.onnx")
    larger = resolve(house, "raw.onnx", input_size=(128, 96))
    shutil.copy(larger, prepared)  # a whole file, and the wrong one
    assert manifests.read(resolve(house, "raw.onnx")).input_size == SIZE


FETCHED = [damage for damage in damages.OF_MODELS if damage is not damages.unsealed]  # it has none


@pytest.fixture
def fetched(house: Path, centerface: Path) -> Path:
    """The built-in model as it was fetched."""
    path = zoo.location("centerface", house / "cache")
    path.parent.mkdir(parents=True)
    shutil.copy(centerface, path)
    return path


@pytest.mark.parametrize("damage", FETCHED)
def test_a_damaged_built_in_model_is_never_prepared_and_not_a_refusal_for_good(
    damage: Damage, house: Path, fetched: Path
) -> None:
    damage(fetched)
    with pytest.raises(StartupError, match=r"centerface: .* damaged .*run `centernetd fetch"):
        resolve(house, "centerface", input_size=(96, 64))
    assert not list((house / "cache").glob("prepared/*"))


def test_a_built_in_model_that_is_prepared_needs_no_fetched_file(
    house: Path, fetched: Path
) -> None:
    prepared = resolve(house, "centerface", input_size=(96, 64))
    fetched.write_bytes(bytes(100))
    assert resolve(house, "centerface", input_size=(96, 64)) == prepared
    fetched.unlink()
    assert resolve(house, "centerface", input_size=(96, 64)) == prepared
    holed(prepared)
    with pytest.raises(ModelError, match="run `centernetd fetch centerface`"):
        resolve(house, "centerface", input_size=(96, 64))

"""What a config's model path stands for."""

import shutil
from pathlib import Path

import pytest

from daemon.errors import ModelError
from daemon.model import manifest as manifests
from daemon.model import store, zoo
from daemon.model.prepare import PrepareOptions, prepare
from tests import exports, models

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
    return store.resolve(
        path, base_dir=house, cache_dir=house / "cache", input_size=input_size, labels=labels
    )


def test_an_export_is_prepared_once(house: Path) -> None:
    prepared = resolve(house, "raw.onnx")
    assert prepared.parent == house / "cache" / "prepared"
    assert manifests.read(prepared).layout == "ctdet"
    written = prepared.stat()
    assert resolve(house, str(house / "raw.onnx")) == prepared
    assert prepared.stat() == written


def test_other_options_or_another_export_are_prepared_apart(house: Path) -> None:
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
        folders = {"base_dir": house, "cache_dir": house / "cache"}
        found = store.resolve(path, **folders, input_size=None, labels=None, **asked)  # type: ignore[arg-type]
        return manifests.read(found).precision

    assert precision_of("raw.onnx") == "float32"
    assert precision_of("raw.onnx", precision_of_exports="float16") == "float16"
    assert (
        precision_of("raw.onnx", precision="float32", precision_of_exports="float16") == "float32"
    )
    assert precision_of("prepared.onnx", precision_of_exports="float16") == "float32"
    with pytest.raises(ModelError, match=r"prepared\.onnx: it is prepared already, in float32"):
        precision_of("prepared.onnx", precision="float16")

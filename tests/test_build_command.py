"""``centernetd build``."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from centernetd.commands.progress import PhasesBar
from centernetd.errors import EngineError
from centernetd.plan import Profile, load_plan
from centernetd.plan import binding as bindings
from tests import exports, models
from tests.commandline import CommandLine
from tests.plans import SIZE, prepared_squares, real_binding


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line in a folder of its own."""
    real_binding()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return CommandLine(capsys)


def test_an_export_is_built_in_float16(cli: CommandLine, tmp_path: Path) -> None:
    exports.write(models.squares(SIZE, reach=2), tmp_path / "squares.onnx")
    outcome = cli("build", "squares.onnx", "-o", "squares.plan", "--batch", "1", "2", "4")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"squares\.plan: tensorrt_rtx [\d.]+, float16, batches of 1 to 4, best at 2, "
        r"[\d.]+ MB, built in [\d.]+ s\n",
        outcome.out,
    )
    plan = load_plan(tmp_path / "squares.plan", real_binding(), None)
    assert (plan.profile, plan.manifest.precision) == (Profile(1, 2, 4), "float16")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_precision_is_the_one_asked_for(
    precision: str, cli: CommandLine, tmp_path: Path
) -> None:
    exports.write(models.squares(SIZE, reach=2), tmp_path / "squares.onnx")
    outcome = cli("build", "squares.onnx", "-o", "a.plan", "--precision", precision)
    assert outcome.code == 0
    assert f" {precision}, batches of 1 to 8, best at 8, " in outcome.out


def test_a_prepared_model_is_built_in_what_it_is_in(cli: CommandLine, tmp_path: Path) -> None:
    prepared_squares(tmp_path)
    assert " float32, " in cli("build", "squares.onnx", "-o", "a.plan").out
    outcome = cli("build", "squares.onnx", "-o", "a.plan", "--precision", "float16")
    assert outcome.code == 78
    assert outcome.err.endswith(
        "squares.onnx: it is prepared already, in float32: for float16, prepare the export that "
        "it was made from\n"
    )


def test_a_model_can_be_prepared_in_float16(cli: CommandLine, tmp_path: Path) -> None:
    exports.write(models.squares(SIZE, reach=2), tmp_path / "raw.onnx")
    assert cli("prepare", "raw.onnx", "-o", "half.onnx", "--precision", "float16").code == 0
    assert cli("prepare", "half.onnx", "--show").json["precision"] == "float16"
    assert " float16, " in cli("build", "half.onnx", "-o", "a.plan").out


@pytest.mark.parametrize(
    "arguments",
    [
        "build",
        "build squares.onnx",
        "build squares.onnx -o a.plan --batch 1 4",
        "build squares.onnx -o a.plan --batch 4 2 8",
        "build squares.onnx -o a.plan --batch 0 2 8",
        "build squares.onnx -o a.plan --precision fp8",
        "build squares.onnx -o a.plan --workspace 100",
    ],
)
def test_wrong_usage(cli: CommandLine, arguments: str) -> None:
    assert cli(*arguments.split()).code == 2


def test_failures_are_one_sentence(cli: CommandLine, tmp_path: Path) -> None:
    prepared_squares(tmp_path)
    (tmp_path / "file").touch()
    outcome = cli("build", "squares.onnx", "-o", "file/a.plan")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    outcome = cli("build", "missing.onnx", "-o", "a.plan")
    assert (outcome.code, outcome.err) == (
        78,
        f"centernetd: {tmp_path}/missing.onnx: no such model file\n",
    )
    outcome = cli("build", "squares.onnx", "-o", "a.plan", "--workspace", "1kB")
    assert (outcome.code, outcome.err.count("\n")) == (70, 1)
    assert outcome.err.endswith("can't build with so little GPU memory: raise --workspace\n")


def test_without_tensorrt_it_explains_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "_import", lambda flavour: "")
    with pytest.raises(EngineError, match=r"not installed: pip install 'centernetd\[gpu\]'"):
        bindings.load_binding.__wrapped__()
    monkeypatch.setattr(bindings, "_import", lambda flavour: f"{flavour} lacks libnvinfer.so.10")
    with pytest.raises(EngineError, match=r"can't be loaded: tensorrt lacks libnvinfer\.so\.10;"):
        bindings.load_binding.__wrapped__()


def test_a_tensorrt_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(type(bindings)):  # type: ignore[misc]
        __version__ = "8.6.1"

    monkeypatch.setattr(bindings, "_import", lambda flavour: Old(flavour))
    with pytest.raises(EngineError, match=r"^TensorRT 8\.6\.1 is too old: 10\.3 is the first"):
        bindings.load_binding.__wrapped__()


def test_the_bar_shows_what_is_under_way() -> None:
    drawn = io.StringIO()
    with PhasesBar(Console(file=drawn, force_terminal=True, width=100)) as bar:
        for phase, step in (("Building", 0), ("Timing", 0), ("Timing", 3), ("Building", 1)):
            assert bar(phase, step, 3)
        bar._bar.refresh()
        last = drawn.getvalue().splitlines()[-1]
    assert "Building" in last
    assert "1/3" in last

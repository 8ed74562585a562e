"""``centernetd export`` as it is typed."""

from pathlib import Path

import pytest
import torch

from centernetd.model import manifest as manifests
from centernetd.prepare.export.checkpoint import make
from tests.commandline import CommandLine
from tests.export.networks import outputs


@pytest.fixture
def centernetd(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model_best.pth"
    torch.save({"state_dict": make("res_18", outputs("ctdet", 80), 64).state_dict()}, path)
    return path


def test_a_checkpoint_becomes_a_prepared_model(
    centernetd: CommandLine, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "coco.onnx"
    arguments = ("--arch", "res_18", "--weights", weights, "-o", output, "--input-size", "64x96")
    done = centernetd("export", *arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"{output}: ctdet, input 64x96, letterbox, 80 classes, up to 100 detections, float32\n"
    )
    assert manifests.read(output).labels[:2] == ("person", "bicycle")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--arch", "res_19"), 2, "--arch res_19: must be one of res_18, res_34"),
        (("--arch", "res_34"), 78, "model_best.pth: it doesn't fit res_34: "),
        (("--arch", "res_18", "--input-size", "100x96"), 78, "both must be divisible by 32"),
        (("--arch", "res_18", "--input-size", "90016x96"), 78, "90016x96 is too large"),
        (("--arch", "res_18", "--labels", "voc"), 78, "has 80 classes, but 20 labels are given"),
    ],
)
def test_what_is_refused(
    centernetd: CommandLine,
    weights: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    output = tmp_path / "out.onnx"
    size = () if "--input-size" in arguments else ("--input-size", "64x64")
    done = centernetd("export", *arguments, *size, "--weights", weights, "-o", output)
    assert done.code == code
    assert message in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err
    assert not output.exists()


def test_a_missing_checkpoint_is_named(centernetd: CommandLine, tmp_path: Path) -> None:
    arguments = ("--arch", "res_18", "--weights", tmp_path / "no.pth", "-o", tmp_path / "out.onnx")
    done = centernetd("export", *arguments)
    assert (done.code, done.err) == (78, f"centernetd: {tmp_path}/no.pth: no such model file\n")

"""The whole daemon on the GPU engine, over its doubles: to the end, and when the GPU is lost."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commandline import clip, configuration, squares_model
from tests.integration.process import LONGEST_RUN

FRAMES = 60


def run(folder: Path, *failure: str) -> "subprocess.CompletedProcess[str]":
    source = clip(folder / "clip.mp4", FRAMES)
    config = configuration(folder, squares_model(folder), gate={"source": str(source)})
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.lost_gpu", str(config), *failure],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "CACHE_DIRECTORY": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )


def test_every_frame_goes_through_the_gpu_engine(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"gate: {FRAMES} captured = {FRAMES} written + 0 dropped" in done.stdout
    assert "tensorrt-rtx" in done.stderr
    events = (tmp_path / "out" / "gate.jsonl").read_text().splitlines()
    assert len(events) == FRAMES, "the rectangle was found in every frame"


@pytest.mark.parametrize(
    ("call", "code"),
    [("cudaEventSynchronize", 719), ("cudaMemcpyAsync", 700), ("launch", 700), ("launch", 999)],
)
def test_a_gpu_that_fails_ends_the_daemon_with_70(call: str, code: int, tmp_path: Path) -> None:
    done = run(tmp_path, call, str(code))
    assert done.returncode == 70, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    # both threads around the engine see a sticky error, at whatever each calls next
    by_cuda = rf"cuda\w+ failed: cuda\w+ \({code}\), .*the GPU is lost to this process"
    by_tensorrt = r"TensorRT failed in execute_async_v3 \(" if call == "launch" else by_cuda
    assert re.match(f"centernetd: ({by_cuda}|{by_tensorrt})", last), last
    assert "gate: " in done.stdout

"""The whole daemon on a real GPU: file in, annotated video out; and a GPU that is lost."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from centernetd.model import zoo
from tests.conftest import CACHE
from tests.gpu.probe import on_gpu

pytestmark = on_gpu
ROOT = Path(__file__).parents[2]
FRAMES = 250

CONFIG = """\
version: 1
engine: {backend: onnxruntime-cuda, precision: %s}
storage: {root: %s}
metrics: {listen: null}
streams:
  demo: {source: %s, events: {frames: always}}
"""


def write_config(folder: Path, precision: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(CONFIG % (precision, folder / "out", ROOT / "assets" / "demo.mp4"))
    return path


def run(command: list[str], cache: Path) -> "tuple[subprocess.CompletedProcess[str], float]":
    environment = {
        **os.environ,
        "PYTHONPATH": ":".join([str(ROOT), *sys.path]),
        "CACHE_DIRECTORY": str(cache),
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done, time.monotonic()


@pytest.mark.usefixtures("centerface")
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_file_goes_in_and_annotated_video_comes_out(precision: str, tmp_path: Path) -> None:
    assert zoo.location("centerface", CACHE).exists()
    config = write_config(tmp_path, precision)
    done, _ = run(["-m", "centernetd", "run", "-c", str(config)], CACHE)
    assert done.returncode == 0, done.stderr
    assert f"demo: {FRAMES} captured = {FRAMES} written + 0 dropped" in done.stdout
    assert "onnxruntime-cuda" in done.stderr
    with av.open(str(tmp_path / "out" / "demo.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
    events = (tmp_path / "out" / "demo.jsonl").read_text().splitlines()
    found = [len(json.loads(line)["detections"]) for line in events]
    assert len(found) == FRAMES
    assert sum(count > 0 for count in found) > FRAMES // 2


@pytest.mark.usefixtures("centerface")
def test_a_lost_gpu_ends_the_daemon_with_70_within_a_second(tmp_path: Path) -> None:
    config = write_config(tmp_path, "float32")
    done, ended = run(["-m", "tests.gpu.crash", str(config)], CACHE)
    crashed = re.search(r"crashed at ([\d.]+)", done.stdout)
    assert crashed, done.stderr
    assert done.returncode == 70, done.stderr
    assert ended - float(crashed[1]) <= 1.0
    assert "cudaErrorIllegalAddress (700)" in done.stderr
    assert "Traceback" not in done.stderr
    with av.open(str(tmp_path / "out" / "demo.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) > 0

"""What needs no camera: a GPU that is lost, and what the service could do if it were taken over."""

import re
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from tests.commandline import clip, configuration, squares_model
from tests.faults.conftest import Measure
from tests.integration import test_systemd_unit as unit

STICKY = (("cudaEventSynchronize", "719"), ("cudaMemcpyAsync", "700"), ("launch", "700"))
LOST = re.compile(r"^lost at (\d+\.\d+)$", re.MULTILINE)


def test_a_sticky_error(tmp_path: Path, rounds: int, measure: Measure) -> None:
    """A double of the CUDA runtime fails one call and every later one with a sticky error"""
    source = clip(tmp_path / "clip.mp4", 60)
    config = configuration(tmp_path, squares_model(tmp_path), gate={"source": str(source)})
    command = [sys.executable, "-m", "tests.integration.lost_gpu", str(config)]
    for failure in islice(cycle(STICKY), rounds):
        done = subprocess.run([*command, *failure], stderr=subprocess.PIPE, text=True, check=False)
        ended = time.time()
        assert done.returncode == 70, done.stderr
        found = LOST.search(done.stderr)
        assert found is not None, done.stderr
        measure("sticky", ended - float(found[1]))


def test_exposure(tmp_path: Path, measure: Measure) -> None:
    """The unit file is rated by `systemd-analyze security`"""
    measure("exposure", unit.exposure(unit.installed(tmp_path)))

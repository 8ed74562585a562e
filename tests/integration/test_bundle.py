"""`centernetd doctor --bundle` next to a running daemon, and next to one that hangs completely."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.integration.process import LONGEST_RUN, SQUARES_SIZE, free_port, started, write_config
from tests.rtsp import moving_square, serving

SENTINEL = "hunter2"


def pack(config: Path, file: Path) -> dict[str, str]:
    """Run the command and return the files in its bundle."""
    done = subprocess.run(
        [sys.executable, "-m", "centernetd", "doctor", "--bundle", file, "-c", config],
        env={**os.environ, "STATE_DIRECTORY": str(config.parent)},
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"packed into {file}" in done.stdout
    with tarfile.open(file) as archive:
        parts = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {Path(name).name: part.read().decode() for name, part in parts.items() if part}


def test_a_daemon_that_runs_and_one_that_hangs(tmp_path: Path, squares: Path) -> None:
    with serving(moving_square()) as camera:
        url = camera.url("play").replace("//", f"//viewer:{SENTINEL}@")
        streams = {"gate": {"source": url}}
        config = write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE, port=free_port())
        with started(config) as daemon:
            daemon.wait_for_frames("gate", 1)
            healthy = pack(config, tmp_path / "healthy.tar.gz")
            daemon.send(signal.SIGSTOP)
            hung = pack(config, tmp_path / "hung.tar.gz")
    assert json.loads(healthy["status.txt"])["streams"]["gate"]["state"] == "running"
    assert 'centernetd_stream_up{stream="gate"} 1.0' in healthy["metrics.txt"]
    assert hung["status.txt"].startswith("not collected: ")
    for content in (healthy, hung):
        assert json.loads(content["doctor.json"])
        assert "://***@" in content["config.json"]
        assert not [name for name, text in content.items() if SENTINEL in text]

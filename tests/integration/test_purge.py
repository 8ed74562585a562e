"""A range of time is purged while the daemon records, and again after it has stopped."""

import json
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.integration.process import LONGEST_RUN, configure, environment, started, stop
from tests.rtsp import moving_square, serving

STREAM = {"record": {"path": "{stream}/%H-%M-%S.mp4", "segment": "1s"}}


def purged(config: Path, code: int) -> dict[str, Any]:
    """Purge all of the camera up to now."""
    now = datetime.fromtimestamp(time.time(), timezone.utc).isoformat()
    period = ("--stream", "cam", "--from", "2020-01-01", "--to", now)
    done = subprocess.run(
        [sys.executable, "-m", "centernetd", "purge", "-c", str(config), "--json", *period],
        env=environment(config),
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    assert done.returncode == code, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_while_it_runs_and_afterwards(tmp_path: Path, squares: Path) -> None:
    with serving(moving_square(rate=10)) as camera:
        config = configure(tmp_path, squares, {"cam": {"source": camera.url("play"), **STREAM}})
        with started(config) as daemon:
            daemon.wait_for_frames("cam", 40)
            document = purged(config, 1)
            removed = [file["path"] for file in document["removed"]]
            assert removed
            assert all(name.endswith(".mp4") for name in removed)
            left = {file["path"]: file["problem"] for file in document["not_removed"]}
            assert "cam.jsonl" in left
            assert all("is being written" in problem for problem in left.values())
            daemon.wait_for_frames("cam", 60)
            finished = stop(daemon)
    assert not [name for name in removed if (finished.state / name).exists()]
    lines = (finished.state / "cam.jsonl").read_text().splitlines()
    assert len(lines) == finished.receipts["cam"].written, "nothing written meanwhile is lost"
    assert purged(config, 0)["not_removed"] == []
    assert [path.name for path in finished.state.rglob("*") if path.is_file()] == [
        ".centernetd.lock"
    ]

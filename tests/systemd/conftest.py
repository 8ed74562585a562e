"""One walk through the life of an installation, which all tests here read the report of."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.systemd import boot

Report = dict[str, Any]


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What was seen at each step. It stays in .cache/systemd/out, and so does the journal."""
    if os.geteuid() != 0:
        pytest.fail("only root can boot a machine")
    script, dist = boot.ROOT / "scripts" / "make_wheelhouse.py", tmp_path_factory.mktemp("dist")
    with subprocess.Popen(
        [sys.executable, script, "--python", boot.PYTHON, dist], stdout=subprocess.DEVNULL
    ) as wheelhouse:
        root = boot.debian()
    assert wheelhouse.returncode == 0
    (made,) = dist.iterdir()
    boot.take_walk(root, made, boot.OUT)
    report: Report = json.loads((boot.OUT / "report.json").read_text("utf-8"))
    return report


@pytest.fixture
def seen(request: pytest.FixtureRequest, walked: Report) -> Report:
    """What was seen at the step that the test is named after."""
    step: Report = walked[request.node.name.removeprefix("test_")]
    assert "failed" not in step, step["failed"]
    return step

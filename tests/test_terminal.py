"""What a command prints while it draws a progress bar on the terminal."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import cv2

from tests import models
from tests.commandline import RED, SIZE, squares_model


def on_a_terminal(*arguments: str | Path, stdout: Path) -> tuple[str, str]:
    """Run the command with stderr on a terminal and stdout in a file; give what each got."""
    ours, terminal = pty.openpty()
    with stdout.open("wb") as file:
        command = [sys.executable, "-m", "centernetd", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=file, stderr=terminal)
    os.close(terminal)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait() == 0, shown
    return stdout.read_text(), shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux reports that nobody else has it open any more
        return b""


def test_json_of_detect_goes_to_stdout_beside_a_bar(tmp_path: Path) -> None:
    model = squares_model(tmp_path)
    names = [tmp_path / "a.png", tmp_path / "b.png"]
    for name in names:
        cv2.imwrite(str(name), models.draw(SIZE, RED))
    out, shown = on_a_terminal(
        "detect", *names, "-m", model, "--json", stdout=tmp_path / "out.json"
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["image"] for line in lines] == [str(name) for name in names]
    assert "images" in shown, "there was no bar"
    assert '"image"' not in shown

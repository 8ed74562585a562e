"""Neither the daemon nor the libraries it uses contact anybody."""

from pathlib import Path

import pytest

from tests import clips
from tests.integration.process import SQUARES_SIZE, run, write_config


def test_onnxruntime_prepares_no_report(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would send it would first keep in the home folder; under CI it keeps still."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    source = clips.count(tmp_path / "clip.mp4", 5)
    config = write_config(
        tmp_path, {"gate": {"source": str(source)}}, model=squares, size=SQUARES_SIZE
    )
    assert run(config).code == 0
    assert list(home.rglob("*")) == []

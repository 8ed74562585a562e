"""Fixtures that several test files share."""

import logging
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from centernetd.errors import StartupError
from centernetd.model import progress
from centernetd.prepare.fetch import fetch
from centernetd.service.logs import LogHandler
from tests import permissions

pytest_plugins = ["tests.commandline", "tests.gpu_box", "tests.plans"]

settings.register_profile("project", deadline=None)  # no test fails because a machine is busy
settings.load_profile("project")

# A shell has what it runs in the background ignore SIGINT, and the daemon leaves it so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CACHE = Path(__file__).parents[1] / ".cache"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a test configures: records of another level keep what they are about alive."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in [handler for handler in root.handlers if isinstance(handler, LogHandler)]:
        root.removeHandler(handler)
        handler.close()


@pytest.fixture(autouse=True)
def no_lines_about_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print and log only what the test expects, even if a busy machine takes ten seconds for it."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", math.inf)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be entered, not even by root."""
    folder = tmp_path / "closed"
    folder.mkdir(0)
    with permissions.respected():
        yield folder
    folder.chmod(0o700)


@pytest.fixture(scope="session")
def centerface() -> Path:
    """The raw CenterFace export, downloaded once into the checkout's cache."""
    return fetch("centerface", CACHE)


@pytest.fixture(scope="session")
def coco() -> Path:
    """The converted COCO CenterNet, downloaded once into the checkout's cache if npm can."""
    try:
        return fetch("coco", CACHE)
    except StartupError as error:
        pytest.skip(f"not in .cache, and {error}")

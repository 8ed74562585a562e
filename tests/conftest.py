"""Fixtures that several test files share."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from centernetd.errors import StartupError
from centernetd.prepare.fetch import fetch

pytest_plugins = ["tests.commandline", "tests.gpu_box", "tests.plans"]

settings.register_profile("project", deadline=None)  # no test fails because a machine is busy
settings.load_profile("project")

# A shell has what it runs in the background ignore SIGINT, and the daemon leaves it so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CACHE = Path(__file__).parents[1] / ".cache"


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

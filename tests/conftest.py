"""Fixtures that several test files share."""

from pathlib import Path

import pytest

from centernetd.model import zoo

pytest_plugins = ["tests.commandline", "tests.houses", "tests.plans"]

CACHE = Path(__file__).parents[1] / ".cache"


@pytest.fixture(scope="session")
def centerface() -> Path:
    """The raw CenterFace export, downloaded once into the checkout's cache."""
    return zoo.fetch("centerface", CACHE)

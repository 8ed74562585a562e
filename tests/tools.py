"""Programs of the operating system that some tests need."""

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Return the path of a program; without it the test is skipped, or fails where CI is set."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path

"""What the tests of plans share: the real TensorRT-RTX, and models for it."""

import importlib
import os
from pathlib import Path

import pytest

from centernetd.model import manifest as manifests
from centernetd.plan import Binding, Job, PlanFile, Profile, resolve_plan
from centernetd.plan.binding import RTX
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, models

SIZE = (64, 96)
PROFILE = Profile(1, 2, 4)


def real_binding() -> Binding:
    """Return TensorRT-RTX, whose parser and builder need no GPU; skip without it, fail in CI."""
    try:
        trt = importlib.import_module(RTX)
    except ImportError:
        if os.environ.get("CI"):
            pytest.fail("tensorrt_rtx is not installed")
        pytest.skip("tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13")
    return Binding(trt, RTX, trt.__version__)


def prepared_squares(folder: Path, name: str = "squares", **options: object) -> Path:
    """Prepare the squares network as `name`."""
    source = exports.write(models.squares(SIZE, reach=2), folder / f"{name}.raw.onnx")
    given = PrepareOptions(labels=models.LABELS, **options)  # type: ignore[arg-type]
    prepare(source, folder / f"{name}.onnx", given)
    return folder / f"{name}.onnx"


@pytest.fixture(scope="session")
def binding() -> Binding:
    return real_binding()


@pytest.fixture
def job(binding: Binding, tmp_path: Path) -> Job:
    """The plan of the squares network is wanted."""
    return squares_job(tmp_path, binding)


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """The folder of plans, still to be made."""
    return tmp_path / "cache" / "plans"


@pytest.fixture
def built(job: Job, plans: Path) -> PlanFile:
    """The plan of `job`, in `plans`."""
    return resolve_plan(job, plans, heedless)


def squares_job(folder: Path, binding: Binding, profile: Profile = PROFILE) -> Job:
    """Ask for the plan of the squares network, prepared at the first call."""
    prepared = folder / "squares.onnx"
    model = manifests.load(prepared if prepared.exists() else prepared_squares(folder))
    return Job(model, profile, binding)


def heedless(phase: str, step: int, of: int) -> bool:
    """Let a build go on, whatever it does."""
    return True


def never(phase: str, step: int, of: int) -> bool:
    """Fail: nothing is to be built."""
    raise AssertionError("nothing is to be built")

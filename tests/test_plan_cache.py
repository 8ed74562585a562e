"""The cache of plans: what is used, what is built again and why, what is refused."""

import errno
import fcntl
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from centernetd.errors import ModelError, StartupError, StoppedError
from centernetd.model import manifest as manifests
from centernetd.model import sealed
from centernetd.plan import (
    Gpu,
    Job,
    PlanFile,
    Profile,
    build_plan,
    load_plan,
    resolve_plan,
    why_build,
)
from centernetd.plan.binding import FULL
from centernetd.plan.cache import plan_path
from tests.plans import PROFILE, heedless, never, prepared_squares

ROOT = Path(__file__).parents[1]
ORIN = Gpu("Orin (nvgpu)", "8.7")


def test_a_plan_is_built_once(job: Job, plans: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert why_build(job, plans) == "none has been built yet"
    with caplog.at_level(logging.INFO, logger="centernetd.plan"):
        first = resolve_plan(job, plans, heedless)
    assert caplog.messages[0].endswith(", because none has been built yet")
    assert caplog.messages[1].startswith("built the plan in ")
    assert first.path.parent == plans
    assert sealed.read(first.path)[0] == first.content
    assert first.manifest == job.model.manifest
    assert first.profile == PROFILE
    assert why_build(job, plans) is None
    assert resolve_plan(job, plans, never) == first


def test_profiles_and_models_of_one_name_lie_side_by_side(
    job: Job, plans: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    jobs = [job, replace(job, profile=Profile(1, 1, 1))]
    jobs.append(replace(job, model=manifests.load(prepared_squares(other))))
    assert len({resolve_plan(each, plans, heedless).path for each in jobs}) == 3
    assert [why_build(each, plans) for each in jobs] == [None, None, None]


Change = Callable[[Job], Job]


def another_model(job: Job) -> Job:
    prepared = prepared_squares(job.model.path.parent, precision="float16")
    return replace(job, model=manifests.load(prepared))


def another_version(job: Job) -> Job:
    return replace(job, binding=replace(job.binding, version="1.8.0.1"))


def the_full_tensorrt(job: Job) -> Job:
    return replace(job, binding=replace(job.binding, flavour=FULL), gpu=ORIN)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_model, "it was built from another model file"),
        (
            another_version,
            "it was built by version 1.7.1.116 of tensorrt_rtx, but 1.8.0.1 is installed",
        ),
        (the_full_tensorrt, "it was built by tensorrt_rtx, but tensorrt is installed"),
    ],
)
def test_the_reason_for_building_again_is_reported(
    change: Change, reason: str, built: PlanFile, job: Job, plans: Path
) -> None:
    version = built.fingerprint.version
    assert why_build(change(job), plans) == reason.replace("1.7.1.116", version)


def test_a_plan_of_the_full_tensorrt_is_for_one_gpu(built: PlanFile, job: Job, plans: Path) -> None:
    full = the_full_tensorrt(job)
    content, about = sealed.read(built.path)
    about["fingerprint"].update(
        {
            "flavour": "tensorrt",
            "gpu": {"name": "Orin (nvgpu)", "compute_capability": "8.7"},
        }
    )
    sealed.write(built.path, content, about)
    assert why_build(full, plans) is None
    moved = replace(full, gpu=Gpu("NVIDIA L4", "8.9"))
    assert why_build(moved, plans) == (
        "it was built for the GPU Orin (nvgpu) (8.7), but this is NVIDIA L4 (8.9)"
    )
    with pytest.raises(ValueError, match="needs the GPU named"):
        why_build(replace(full, gpu=None), plans)


def test_a_plan_of_tensorrt_rtx_is_for_any_gpu(built: PlanFile, job: Job, plans: Path) -> None:
    for gpu in (None, ORIN):
        assert why_build(replace(job, gpu=gpu), plans) is None
    assert built.fingerprint.gpu is None


def test_a_full_disk_is_one_sentence(
    job: Job, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StartupError) as refused:
        resolve_plan(job, plans, heedless)
    assert str(refused.value) == (
        f"{plan_path(job, plans)}: can't be written: No space left on device; plans are stored "
        "there: free some space, or set engine.plan_cache to another folder"
    )
    assert {path.suffix for path in plans.iterdir()} == {".lock"}


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest(
    built: PlanFile, job: Job, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(job, profile=Profile(1, 1, 1))
    opened = os.open

    def read_only(path: str | Path, flags: int, *mode: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    assert resolve_plan(job, plans, never) == built
    with pytest.raises(StartupError, match=f"^{plans}: can't be written: Read-only .*plan_cache"):
        resolve_plan(other, plans, never)


def test_a_cache_below_a_file_is_one_sentence(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StartupError, match=r"file/plans: this cache folder can't be read: Not a directory"
    ):
        resolve_plan(job, tmp_path / "file" / "plans", never)


BUILDER = """
import logging, sys
from pathlib import Path
from centernetd.plan import Profile, resolve_plan
from tests.plans import real_binding, squares_job
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
reported = set()
def progress(phase, step, of):
    if phase not in reported:
        print(phase, flush=True)
    reported.add(phase)
    return True
folder = Path(sys.argv[1])
resolve_plan(squares_job(folder, real_binding()), folder / "plans", progress)
"""


def test_two_processes_build_one_plan_once(job: Job, tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    plan = plan_path(job, plans)
    with plan.with_name(f"{plan.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", BUILDER, str(tmp_path)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting for another process that builds it\n"
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(text.count("built the plan") for text in outputs) == [0, 1]
    assert resolve_plan(job, plans, never).path == plan


def test_the_wait_for_another_process_can_be_stopped(job: Job, plans: Path) -> None:
    plans.mkdir(parents=True)
    plan = plan_path(job, plans)
    with plan.with_name(f"{plan.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reported: list[tuple[str, int, int]] = []

        def stop(phase: str, step: int, of: int) -> bool:
            reported.append((phase, step, of))
            return False

        with pytest.raises(StoppedError, match="wait for another process"):
            resolve_plan(job, plans, stop)
    assert reported == [("waiting for another process that builds it", 0, 1)]
    assert not plan.exists()


def test_a_plan_is_built_where_the_user_wants_it(job: Job, plans: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "gate.plan"
    built = build_plan(job, wanted, plans, heedless)
    assert load_plan(wanted, job.binding, None) == built
    assert not plans.exists()


def test_a_model_that_was_replaced_since_it_was_read_is_not_built(job: Job, plans: Path) -> None:
    prepared_squares(job.model.path.parent, precision="float16")
    with pytest.raises(ModelError, match=r"squares\.onnx: it was replaced during the start"):
        resolve_plan(job, plans, heedless)
    assert not plan_path(job, plans).exists()


def test_a_refused_model_is_named(job: Job, plans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise ModelError("no")

    monkeypatch.setattr("centernetd.plan.cache.build", refuse)
    with pytest.raises(ModelError, match=f"^{job.model.path}: no$"):
        resolve_plan(job, plans, heedless)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (2, 1, 4), (1, 5, 4)])
def test_batch_sizes_must_not_fall(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ModelError, match="must be above 0 and must not fall"):
        Profile(*sizes)


def test_a_lax_umask_does_not_make_plans_unusable(job: Job, plans: Path) -> None:
    before = os.umask(0)
    try:
        built = resolve_plan(job, plans, heedless)
    finally:
        os.umask(before)
    assert resolve_plan(job, plans, never) == built
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in (plans, *plans.iterdir())}
    assert modes[""] == 0o755
    assert modes[".lock"] == 0o644


def test_nothing_else_is_left_in_the_cache(built: PlanFile, plans: Path) -> None:
    names = {path.name for path in plans.iterdir()}
    assert names == {built.path.name, f"{built.path.name}.lock"}


def test_the_way_of_the_full_tensorrt(
    job: Job, plans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Walked with TensorRT-RTX, which has all that is used of the full one."""
    full = replace(job, binding=replace(job.binding, flavour=FULL, version="10.3.0"), gpu=ORIN)
    with pytest.warns(DeprecationWarning, match="no-ops"):
        built = resolve_plan(full, plans, heedless)
    assert built.fingerprint.gpu == ORIN
    assert (plans / "timing-tensorrt-10.3.0.cache").stat().st_size > 0
    assert resolve_plan(full, plans, never) == built
    moved = replace(full, gpu=Gpu("NVIDIA L4", "8.9"))
    with caplog.at_level(logging.INFO), pytest.warns(DeprecationWarning, match="no-ops"):
        assert resolve_plan(moved, plans, heedless).fingerprint.gpu == moved.gpu
    assert "for the GPU Orin (nvgpu) (8.7), but this is NVIDIA L4 (8.9)" in caplog.text
    with pytest.raises(ModelError, match=r"NVIDIA L4 \(8\.9\), but this is Orin"):
        load_plan(built.path, full.binding, ORIN)


def test_a_plan_is_named_by_its_model_and_its_batch_sizes(job: Job, plans: Path) -> None:
    name, path = plan_path(job, plans).name, job.model.path
    assert re.fullmatch(r"squares-[0-9a-f]{8}-1-2-4\.plan", name)
    assert plan_path(replace(job, gpu=ORIN, workspace=5), plans).name == name
    moved = replace(job, model=replace(job.model, path=path.parent / "elsewhere" / path.name))
    assert plan_path(moved, plans).name != name


def test_how_long_the_build_took_is_known_once(job: Job, plans: Path) -> None:
    before = time.monotonic()
    built = resolve_plan(job, plans, heedless)
    assert built.build_seconds is not None
    assert 0 < built.build_seconds <= time.monotonic() - before
    assert resolve_plan(job, plans, never).build_seconds is None


def test_what_others_can_write_to_is_refused(built: PlanFile, job: Job, plans: Path) -> None:
    other = replace(job, profile=Profile(1, 1, 1))
    plans.chmod(0o777)
    for use in (
        lambda: resolve_plan(job, plans, never),
        lambda: resolve_plan(other, plans, never),
        lambda: build_plan(job, plans / "gate.plan", plans, never),
        lambda: why_build(job, plans),
    ):
        with pytest.raises(ModelError, match="others can write to this folder"):
            use()
    assert why_build(other, plans) == "none has been built yet"


def test_a_folder_that_can_not_be_read(job: Job, closed: Path) -> None:
    for use in (lambda: resolve_plan(job, closed, never), lambda: why_build(job, closed)):
        with pytest.raises(StartupError) as refused:
            use()
        assert str(refused.value) == (
            f"{closed}: this cache folder can't be read: Permission denied; let this user read it, "
            "or set engine.plan_cache to another"
        )


def test_what_a_killed_build_left_is_removed(job: Job, plans: Path) -> None:
    left = plans / ".centernetd-killed"
    left.mkdir(parents=True)
    plan_path(job, plans).mkdir()
    assert "can't be used" in str(why_build(job, plans))
    built = resolve_plan(job, plans, heedless)
    assert built.path.is_file(), "a folder of its name made way"
    assert not left.exists()

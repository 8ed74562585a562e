"""Plans that are spoilt, somebody else's or within others' reach: never loaded."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from centernetd.errors import ModelError
from centernetd.model import sealed
from centernetd.plan import Binding, Job, PlanFile, build_plan, load_plan, resolve_plan, why_build
from tests.damages import a_folder, a_link_to_nothing, a_pipe, cut, empty, unreadable, unsealed
from tests.plans import heedless, never


def tampered(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)


def missealed(plan: Path) -> None:
    sealed.write(plan, sealed.read(plan)[0], {"format": 2, "fingerprint": {}})


def of_the_future(plan: Path) -> None:
    content, about = sealed.read(plan)
    sealed.write(plan, content, {**about, "format": 99})


def writable_by_others(plan: Path) -> None:
    plan.chmod(0o666)


SPOILT: dict[Callable[[Path], None], str] = {
    cut: "it is damaged or incomplete",
    tampered: "it is damaged or incomplete",
    unsealed: "its seal is missing",
    missealed: "its seal does not describe a plan",
    empty: "its seal is missing",
    a_folder: "it can't be read: Is a directory",
    a_pipe: "it can't be read: it is not a regular file",
    unreadable: "it can't be read: Input/output error",
    a_link_to_nothing: "there is no such file",
    of_the_future: "it was built by another version of centernetd",
    writable_by_others: "others can write to it",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_spoilt_in_the_cache_is_built_again(
    spoil: Callable[[Path], None], built: PlanFile, job: Job, plans: Path
) -> None:
    spoil(built.path)
    reason = why_build(job, plans)
    assert re.search(SPOILT[spoil], reason or "")
    again = resolve_plan(job, plans, heedless)
    assert again.fingerprint == built.fingerprint
    assert why_build(job, plans) is None


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_spoilt_is_refused_where_the_user_named_it(
    spoil: Callable[[Path], None], built: PlanFile, binding: Binding
) -> None:
    assert load_plan(built.path, binding, None) == built
    spoil(built.path)
    with pytest.raises(ModelError, match=SPOILT[spoil]) as refused:
        load_plan(built.path, binding, None)
    assert str(refused.value).startswith(f"{built.path}: ")
    assert str(refused.value).endswith(f"`centernetd build MODEL -o {built.path}`")


def test_a_plan_for_elsewhere_is_refused_where_the_user_named_it(
    built: PlanFile, binding: Binding, tmp_path: Path
) -> None:
    other = replace(binding, version="1.8")
    with pytest.raises(ModelError, match=r"but 1\.8 is installed; build it here with"):
        load_plan(built.path, other, None)
    with pytest.raises(ModelError, match=r"no\.plan: there is no such file; build it here"):
        load_plan(tmp_path / "no.plan", binding, None)


def test_somebody_elses_plan_is_not_loaded(
    built: PlanFile, binding: Binding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1000)
    if os.getuid() == 0:
        os.chown(built.path, 4711, -1)
    with pytest.raises(ModelError, match="belongs to another user"):
        load_plan(built.path, binding, None)


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_no_plan_comes_from_a_folder_that_others_can_write_to(
    mode: int, built: PlanFile, job: Job, plans: Path
) -> None:
    plans.chmod(mode)
    for use in (
        lambda: resolve_plan(job, plans, never),
        lambda: why_build(job, plans),
        lambda: load_plan(built.path, job.binding, None),
    ):
        with pytest.raises(ModelError, match=f"^{plans}: others can write to this folder"):
            use()
    plans.chmod(0o1777)  # as /tmp: nobody can replace what is not theirs
    assert resolve_plan(job, plans, never) == built


def test_no_plan_is_built_into_a_folder_that_others_can_write_to(job: Job, plans: Path) -> None:
    plans.mkdir(parents=True)
    plans.chmod(0o777)
    with pytest.raises(ModelError, match="others can write to this folder"):
        resolve_plan(job, plans, never)
    with pytest.raises(ModelError, match="others can write to this folder"):
        build_plan(job, plans / "gate.plan", plans, never)


def test_a_group_of_many_counts_as_others(built: PlanFile, job: Job, plans: Path) -> None:
    plans.chmod(0o775)
    assert resolve_plan(job, plans, never) == built  # the group is this user's own
    if os.getuid() == 0:
        os.chown(plans, -1, 4711)
        with pytest.raises(ModelError, match="others can write to this folder"):
            resolve_plan(job, plans, never)

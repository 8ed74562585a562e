"""The plans on this machine, and which of them would be rebuilt."""

from collections.abc import Iterator
from pathlib import Path

from centernetd.doctor.finding import Finding, Level
from centernetd.errors import CenternetdError
from centernetd.plan import Binding, Gpu, load_binding, load_plan
from centernetd.run.loading import find_gpu


def plans(folder: Path) -> Iterator[Finding]:
    """Yield a finding for each plan in ``folder``; nothing if TensorRT is not installed."""
    try:
        binding = load_binding()
    except CenternetdError:
        return
    found = sorted(folder.glob("*.plan"))
    if not found:
        yield Finding("plans", Level.NOTE, f"none in {folder}: the first start builds one")
        return
    try:
        gpu = find_gpu(0) if binding.plans_fit_one_gpu else None
    except CenternetdError as error:
        yield Finding("plans", Level.NOTE, f"{len(found)} in {folder}, not judged: {error}")
        return
    for plan in found:
        yield _judge(plan, binding, gpu)


def _judge(plan: Path, binding: Binding, gpu: Gpu | None) -> Finding:
    topic = f"plan {plan.stem}"
    try:
        fits = load_plan(plan, binding, gpu).fingerprint
    except CenternetdError as error:
        return Finding(topic, Level.NOTE, f"{error}, or leave it to the next start")
    return Finding(topic, Level.OK, f"{fits.precision}, batches of {fits.profile}")

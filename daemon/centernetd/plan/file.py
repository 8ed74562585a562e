"""A plan on disk, and the seal in it that says what it is."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from centernetd.errors import ModelError
from centernetd.model import sealed
from centernetd.model.manifest import Manifest
from centernetd.plan import trust
from centernetd.plan.binding import Binding
from centernetd.plan.fingerprint import Fingerprint, Gpu, Profile

_FORMAT = 2


@dataclass(frozen=True)
class PlanFile:
    """A verified plan; ``content`` is the very bytes that were verified.

    ``build_seconds`` is None unless it was built just now.
    """

    path: Path
    manifest: Manifest
    fingerprint: Fingerprint
    content: bytes = field(repr=False)
    build_seconds: float | None = field(default=None, compare=False)

    @property
    def profile(self) -> Profile:
        """The batch sizes that it can run."""
        return self.fingerprint.profile


def load_plan(path: Path, binding: Binding, gpu: Gpu | None) -> PlanFile:
    """Read the plan that a user named, to be run by ``binding`` on ``gpu``.

    Raises
    ------
    ModelError
        The plan is missing, damaged, not to be trusted, or not for this TensorRT or GPU.
    """
    trust.refuse_open_folder(path.resolve().parent)
    advice = f"build it here with `centernetd build MODEL -o {path}`"
    try:
        plan = read_plan(path)
    except ModelError as error:
        raise ModelError(f"{path}: {error}; {advice}") from None
    here = dataclasses.replace(
        plan.fingerprint,
        flavour=binding.flavour,
        version=binding.version,
        gpu=gpu if binding.plans_fit_one_gpu else None,
    )
    if difference := plan.fingerprint.difference(here):
        raise ModelError(f"{path}: {difference}; {advice}")
    return plan


def read_plan(path: Path) -> PlanFile:
    """Read a plan and prove that it is what was built, whatever for.

    Raises
    ------
    ModelError
        It is not; half a sentence without the name of the plan.
    """
    content, about = sealed.read(path, trust.refuse_foreign_file)
    try:
        if about["format"] != _FORMAT:
            raise ModelError("it was built by another version of centernetd")
        fingerprint = Fingerprint.from_dict(about["fingerprint"])
        manifest = Manifest.from_json(json.dumps(about["manifest"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelError("its seal doesn't say what it was built from and for") from None
    return PlanFile(path, manifest, fingerprint, content)


def write_plan(path: Path, content: bytes, manifest: Manifest, fingerprint: Fingerprint) -> None:
    """Write a plan, whole or not at all.

    Raises
    ------
    StartupError
        When it can't be written.
    """
    about = {
        "format": _FORMAT,
        "fingerprint": dataclasses.asdict(fingerprint),
        "manifest": dataclasses.asdict(manifest),
    }
    sealed.write(path, content, about)

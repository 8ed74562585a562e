"""A plan on disk, and the seal that describes it."""

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
    """A verified plan; ``content`` is exactly the bytes that were verified.

    ``build_seconds`` is None unless the plan has just been built.
    """

    path: Path
    manifest: Manifest
    fingerprint: Fingerprint
    content: bytes = field(repr=False)
    build_seconds: float | None = field(default=None, compare=False)

    @property
    def profile(self) -> Profile:
        """The batch sizes that the plan supports."""
        return self.fingerprint.profile


def load_plan(path: Path, binding: Binding, gpu: Gpu | None) -> PlanFile:
    """Read a plan named by the user, to be run with ``binding`` on ``gpu``.

    Raises
    ------
    ModelError
        The plan is missing, damaged, untrusted, or for another TensorRT or GPU.
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
    """Read a plan and verify its integrity, whatever it was built for.

    Raises
    ------
    ModelError
        It is not intact; a sentence fragment without the plan's name.
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
    """Write a plan atomically.

    Raises
    ------
    StartupError
        The plan can't be written.
    """
    about = {
        "format": _FORMAT,
        "fingerprint": dataclasses.asdict(fingerprint),
        "manifest": dataclasses.asdict(manifest),
    }
    sealed.write(path, content, about)

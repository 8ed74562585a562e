"""A plan on disk: ``x.plan``, and ``x.plan.json`` that says what it is."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from daemon.errors import ModelError
from daemon.model import files
from daemon.model.manifest import Manifest
from daemon.model.plan import trust
from daemon.model.plan.binding import Binding
from daemon.model.plan.fingerprint import Fingerprint, Gpu, Profile

_FORMAT = 1


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


def beside(plan: Path) -> Path:
    """Return where the description of ``plan`` lies."""
    return plan.with_name(f"{plan.name}.json")


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
    content = trust.read(path)
    try:
        said = trust.read(beside(path))
    except ModelError as error:
        raise ModelError(f"its description {beside(path).name}: {error}") from None
    try:
        document = json.loads(said)
        if document["format"] != _FORMAT:
            raise ModelError("it was built by another version of centernetd")
        fingerprint = Fingerprint.from_dict(document["fingerprint"])
        manifest = Manifest.from_json(json.dumps(document["manifest"]))
        digest = document["plan_sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelError(f"its description {beside(path).name} is damaged") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError("it is not the file that was built, or not all of it (SHA-256 differs)")
    return PlanFile(path, manifest, fingerprint, content)


def write_plan(path: Path, content: bytes, manifest: Manifest, fingerprint: Fingerprint) -> None:
    """Write a plan and its description, each whole or not at all.

    Raises
    ------
    StartupError
        When they can't be written.
    """
    document = {
        "format": _FORMAT,
        "plan_sha256": hashlib.sha256(content).hexdigest(),
        "fingerprint": dataclasses.asdict(fingerprint),
        "manifest": dataclasses.asdict(manifest),
    }
    said = json.dumps(document, indent=2).encode()
    for part, where in ((content, path), (said, beside(path))):
        files.write(part, where)
        trust.keep_from_others(where)

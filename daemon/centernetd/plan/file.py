"""A plan on disk, and its fingerprint: what it was built from and for."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from centernetd.cuda import Device
from centernetd.errors import ModelError
from centernetd.model import sealed
from centernetd.model.manifest import Manifest
from centernetd.plan import trust
from centernetd.plan.binding import Binding

_FORMAT = 2


@dataclass(frozen=True)
class Profile:
    """Batch sizes a plan supports: ``minimum`` to ``maximum``, fastest at ``optimum``."""

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise ModelError(f"the batch sizes {self} must be above 0 and must not fall")

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}, best at {self.optimum}"


@dataclass(frozen=True)
class Gpu:
    """A GPU's name and its compute capability, such as ``8.7``."""

    name: str
    compute_capability: str

    @classmethod
    def find(cls, index: int) -> "Gpu":
        """Return GPU ``index`` of this process.

        Raises
        ------
        EngineError
            There is no such GPU, or it can't be used.
        """
        device = Device(index)
        major, minor = device.compute_capability
        return cls(device.name, f"{major}.{minor}")

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability})"


@dataclass(frozen=True)
class Fingerprint:
    """Everything that distinguishes plans; ``gpu`` is None if plans run on any supported GPU."""

    model_sha256: str
    precision: str
    profile: Profile
    flavour: str
    version: str
    gpu: Gpu | None

    @classmethod
    def from_dict(cls, found: Any) -> "Fingerprint":  # noqa: ANN401
        """Restore a fingerprint from its JSON; raise `TypeError` for anything else."""
        gpu = found["gpu"]
        values = {
            **found,
            "profile": Profile(**found["profile"]),
            "gpu": None if gpu is None else Gpu(**gpu),
        }
        return cls(**values)

    def difference(self, requested: "Fingerprint") -> str | None:
        """Return how this differs from ``requested``, as a sentence fragment, or None."""
        sentences = {
            "flavour": "it was built by {0}, but {1} is installed",
            "version": "it was built by version {0} of {flavour}, but {1} is installed",
            "gpu": "it was built for the GPU {0}, but this is {1}",
            "model_sha256": "it was built from another model file",
            "precision": "it was built in {0}, and the model is in {1}",
            "profile": "it was built for batches of {0}, but {1} is requested",
        }
        for name, sentence in sentences.items():
            mine, other = getattr(self, name), getattr(requested, name)
            if mine != other:
                return sentence.format(mine, other, flavour=self.flavour)
        return None


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
    trust.refuse_shared_folder(path.resolve().parent)
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
        raise ModelError("its seal does not describe a plan") from None
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

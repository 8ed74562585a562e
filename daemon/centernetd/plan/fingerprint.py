"""What a plan was built from and for, and how that differs from a requested plan."""

from dataclasses import dataclass
from typing import Any

from centernetd.errors import ModelError
from centernetd.model.manifest import Manifest
from centernetd.plan.binding import Binding


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
    def of(
        cls,
        model_sha256: str,
        manifest: Manifest,
        profile: Profile,
        binding: Binding,
        gpu: Gpu | None,
    ) -> "Fingerprint":
        """Return the fingerprint of the plan that ``binding`` builds from a model on ``gpu``.

        Raises
        ------
        ValueError
            The binding's plans fit only one kind of GPU, and ``gpu`` is None.
        """
        if binding.plans_fit_one_gpu and gpu is None:
            raise ValueError(f"{binding} needs the GPU named")
        return cls(
            model_sha256,
            manifest.precision,
            profile,
            binding.flavour,
            binding.version,
            gpu if binding.plans_fit_one_gpu else None,
        )

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

    def difference(self, wanted: "Fingerprint") -> str | None:
        """Return how this differs from ``wanted``, as a sentence fragment; None if it doesn't."""
        sayings = {
            "flavour": "it was built by {0}, and {1} is installed",
            "version": "it was built by version {0} of {flavour}, and {1} is installed",
            "gpu": "it was built for the GPU {0}, and this is {1}",
            "model_sha256": "it was built from another model file",
            "precision": "it was built in {0}, and the model is in {1}",
            "profile": "it was built for batches of {0}, and {1} is wanted",
        }
        for name, saying in sayings.items():
            mine, other = getattr(self, name), getattr(wanted, name)
            if mine != other:
                return saying.format(mine, other, flavour=self.flavour)
        return None

"""The keys and shapes of published checkpoints, as listed in `tests/data/checkpoints`.

The listings were made from the authors' own definitions (named in docs/models.md), not from
ours. A line is a key with its shape, or ``norm KEY CHANNELS`` for the five of a batch
normalisation.
"""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "checkpoints"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))

Listing = dict[str, tuple[int, ...]]


def architecture(name: str) -> str:
    """Return what the listing ``architecture-task`` is of."""
    return name.partition("-")[0]


def read(name: str) -> Listing:
    """Return the shape of every key of a listing."""
    found: Listing = {}
    for line in (FOLDER / f"{name}.txt").read_text().splitlines():
        key, *rest = line.split()
        if key != "norm":
            found[key] = tuple(map(int, rest))
            continue
        layer, channels = rest[0], int(rest[1])
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{layer}.{part}"] = (channels,)
        found[f"{layer}.num_batches_tracked"] = ()
    return found

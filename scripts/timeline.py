"""Plot when copies and compute ran on the GPU: ``python -m scripts.timeline BENCH.json OUT.png``.

Reads the JSON that ``python -m tests.gpu.bench`` writes.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

LANES = {"copy_in": "copy in", "execute": "execute", "copy_out": "copy out"}


def draw(source: Path, target: Path) -> None:
    """Draw one bar per step, with a lane per CUDA stream and a colour per batch."""
    steps = json.loads(source.read_text())["timeline"]
    figure, axes = plt.subplots(figsize=(10, 2.6), layout="constrained")
    colours = plt.get_cmap("tab10")
    for step in steps:
        lane = list(LANES).index(step["step"])
        width = step["end"] - step["begin"]
        colour = colours(step["batch"] % 10)
        axes.barh(lane, width, left=step["begin"], color=colour, edgecolor="black", linewidth=0.4)
        if step["step"] == "execute":
            middle = step["begin"] + width / 2
            axes.text(middle, lane, step["batch"], ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(LANES)), LANES.values())
    axes.invert_yaxis()
    axes.set_xlabel("ms on the GPU's clock")
    axes.set_title("Batches of 32 frames: copies run under the compute of their neighbours")
    figure.savefig(target, dpi=150)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))

"""Measure the cost of int8 for the built-in CenterFace on the demo, for docs/models.md.

    python -m scripts.make_int8_figures

The accuracy depends only on model and video; the speed needs an otherwise idle machine.
"""

import os
import tempfile
import textwrap
from functools import partial
from pathlib import Path

from centernetd.commands.calibrate import IOU, calibrate
from centernetd.config import cache_dir
from centernetd.model.zoo import fetch
from centernetd.prepare.prepare import PrepareOptions, prepare
from scripts.marked import fill

DEMO = Path("assets") / "demo.mp4"
SIZE = (512, 512)
COLUMNS = 120


def main() -> None:
    """Calibrate, compare, and update the page."""
    load = os.getloadavg()[0]
    make = partial(prepare, fetch("centerface", cache_dir()))
    options = PrepareOptions(input_size=SIZE, precision="int8")
    video = str(Path(__file__).parents[1] / DEMO)
    with tempfile.TemporaryDirectory() as folder:
        done = calibrate(make, Path(folder) / "int8.onnx", options, video, lambda *_: True)
    found = done.agreement
    text = (
        f"With the built-in CenterFace at {SIZE[0]}x{SIZE[1]} and `{DEMO}`: calibrated on "
        f"{done.frames} frames, {found.matched} of the {found.expected} faces in {done.held_out} "
        f"other frames were found again with IoU >= {IOU} ({found.matched / found.expected:.1%}), "
        f"{found.extra} came in addition, and scores differed by {found.drift:.3f} on average and "
        f"{found.most_drift:.3f} at most. On {len(os.sched_getaffinity(0))} cores it ran "
        f"{done.before / done.after:.2f} times as fast as in float32 (load average {load:.1f} when "
        "that began)."
    )
    fill("int8", textwrap.wrap(text, COLUMNS, break_on_hyphens=False))


if __name__ == "__main__":
    main()

"""Faces that a blurred recording leaves open, seen in its pixels."""

import json
from pathlib import Path

import pytest

from scripts.measure_blur import LARGE, Face, covered
from tests.faults.conftest import Measure
from tests.integration.conftest import DEMO
from tests.integration.process import run, write_config

RATE = 25  # frames per second of the demo
MOSTLY = 0.9  # of a face that is visible
LEAST = 0.3


def truth() -> list[list[Face]]:
    frames = json.loads(DEMO.with_suffix(".json").read_text())["frames"]
    return [
        [
            Face("demo", tuple(f["box"]), f["height"], f["visible"])
            for f in faces
            if f["visible"] >= LEAST
        ]
        for faces in frames
    ]


@pytest.mark.parametrize("every", [1, 2, 5], ids=["25 frames/s", "12.5 frames/s", "5 frames/s"])
def test_faces_are_covered(every: int, centerface: Path, tmp_path: Path, measure: Measure) -> None:
    """The demo is recorded with `blur: {}`: faces of 25 to 220 pixels, some cut by the edge"""
    stream = {"source": str(DEMO), "privacy": {"blur": {}}, "record": {"draw": []}}
    thinned = {**stream, "detect": {"max_fps": RATE / every}}
    finished = run(write_config(tmp_path, {"demo": thinned}))
    shares = [*covered(finished.state / "demo.mp4", truth()[::every])]
    faces, still_open = [f for _, f, _ in shares], [f for _, f, share in shares if share < 0.5]
    whole, open_whole = ([f for f in part if f.visible >= MOSTLY] for part in (faces, still_open))
    note = f"{len(still_open)} of {len(faces)}; of those visible to 90 %, "
    note += f"{len(open_whole)} of {len(whole)}"
    measure("open", 100 * len(still_open) / len(faces), note)
    large, open_large = ([f for f in part if f.height >= LARGE] for part in (whole, open_whole))
    measure("whole_faces", len(open_large), f"of {len(large)}")

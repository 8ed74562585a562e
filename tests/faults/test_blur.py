"""Faces that a blurred recording leaves open, seen in its pixels."""

import json
from pathlib import Path

from scripts.measure_blur import Face, covered
from tests.faults.conftest import Measure
from tests.integration.conftest import DEMO
from tests.integration.process import run, write_config

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


def test_faces_are_covered(centerface: Path, tmp_path: Path, measure: Measure) -> None:
    """The demo is recorded with `blur: {}`: faces of 25 to 220 pixels, some cut by the edge"""
    stream = {"source": str(DEMO), "privacy": {"blur": {}}, "record": {"draw": []}}
    finished = run(write_config(tmp_path, {"demo": stream}))
    shares = [(face, share) for _, face, share in covered(finished.state / "demo.mp4", truth())]
    still_open = [face for face, share in shares if share < 0.5]
    whole = [face for face, _ in shares if face.visible >= MOSTLY]
    of_whole = sum(face.visible >= MOSTLY for face in still_open)
    note = (
        f"{len(still_open)} of {len(shares)}; of those visible to 90 %, {of_whole} of {len(whole)}"
    )
    measure("open", 100 * len(still_open) / len(shares), note)

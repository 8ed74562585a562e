"""Privacy from end to end: what is covered does not hang on what is counted."""

import json
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from scripts.measure_blur import Face, covered
from tests import clips
from tests.integration.conftest import DEMO
from tests.integration.process import run, write_config

FRAMES = 30


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The beginning of the demo."""
    with av.open(str(DEMO)) as container:
        decoded = islice(container.decode(video=0), FRAMES)
        frames = [np.asarray(f.to_ndarray(format="bgr24"), np.uint8) for f in decoded]
    return clips.write(tmp_path / "clip.mp4", frames, encoding={"crf": "12"})


def faces() -> list[list[Face]]:
    frames = json.loads(DEMO.with_suffix(".json").read_text())["frames"]
    return [
        [
            Face("demo", tuple(f["box"]), f["height"], f["visible"])
            for f in faces
            if f["visible"] == 1
        ]
        for faces in frames[:FRAMES]
    ]


def test_faces_are_blurred_while_people_are_counted(
    centerface: Path, coco: Path, clip: Path, tmp_path: Path
) -> None:
    """By two models, of which the stream shows one."""
    stream = {
        "source": str(clip),
        "models": "people",
        "privacy": {"blur": {"model": "faces"}},
        "record": {"draw": []},
        "events": {"when": "always"},
    }
    models = {"people": {"path": "coco"}, "faces": {"path": "centerface"}}
    finished = run(write_config(tmp_path, {"gate": stream}, models=models))
    assert finished.receipts["gate"].balanced
    lines = (finished.state / "gate.jsonl").read_text().splitlines()
    found = [json.loads(line)["detections"] for line in lines]
    labels = {seen["label"] for frame in found for seen in frame}
    assert len(found) == FRAMES
    assert "person" in labels
    assert "face" not in labels
    shares = [share for _, _, share in covered(finished.state / "gate.mp4", faces())]
    assert len(shares) > FRAMES
    assert min(shares) > 0.95, "a face is open"

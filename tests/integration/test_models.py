"""Two models on one stream, from end to end."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests import clips
from tests.integration.conftest import DEMO
from tests.integration.process import run, write_config

FRAMES = 12


def test_faces_and_people_are_found_by_two_models_of_one_stream(
    centerface: Path, coco: Path, tmp_path: Path
) -> None:
    with av.open(str(DEMO)) as container:
        decoded = islice(container.decode(video=0), FRAMES)
        frames = [np.asarray(f.to_ndarray(format="bgr24"), np.uint8) for f in decoded]
    clip = clips.write(tmp_path / "clip.mp4", frames, encoding={"crf": "12"})
    models = {"faces": {"path": "centerface"}, "coco": {"path": "coco"}}
    streams: dict[str, dict[str, Any]] = {
        "both": {"source": str(clip), "models": ["faces", "coco"]},
        "people": {"source": str(clip), "models": "coco", "detect": {"labels": ["person"]}},
    }
    for stream in streams.values():
        stream |= {"events": {"frames": "always"}, "record": {"when": "never"}}
    finished = run(write_config(tmp_path, streams, models=models))
    found = {}
    for name in streams:
        assert finished.receipts[name].balanced
        lines = (finished.state / f"{name}.jsonl").read_text().splitlines()
        found[name] = [json.loads(line)["detections"] for line in lines]
        assert len(found[name]) == FRAMES
    for together, alone in zip(found["both"], found["people"], strict=True):
        seen = {(each["model"], each["label"]) for each in together}
        assert seen >= {("faces", "face"), ("coco", "person")}
        assert all(each["model"] == "faces" for each in together if each["label"] == "face")
        assert all(("keypoints" in each) == (each["model"] == "faces") for each in together)
        people = [each for each in together if each["label"] == "person"]
        assert people == alone, "what a model finds depends on what else the stream runs"
        assert {each["class_id"] for each in people} <= {0}

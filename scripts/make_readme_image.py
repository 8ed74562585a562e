"""Make docs/images/boxes-and-blur.jpg: one frame of the demo from two recordings.

Run ``python scripts/make_readme_image.py`` (half a minute) with centernetd installed, after
``centernetd fetch centerface``. Both halves are taken from real recordings.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

ROOT = Path(__file__).resolve().parent.parent
CLIP, TRUTH = ROOT / "assets" / "demo.mp4", ROOT / "assets" / "demo.json"
OUTPUT = ROOT / "docs" / "images" / "boxes-and-blur.jpg"
WIDTH = 1600
GAP = 8  # pixels of white between the halves
LARGEST = 200_000  # bytes
LARGE_FACE = 60  # pixels of height: still recognisable in the image
MOSTLY = 0.5  # of a face, so that it can be expected to be detected

CONFIG = """
version: 1
streams:
  demo: {{source: {source}}}
defaults:
  record: {{draw: {draw}}}
metrics: {{listen: null}}
"""


def record(draw: str, folder: Path) -> None:
    """Run the demo with ``record.draw: draw`` and write its outputs to ``folder``."""
    config = folder / "config.yaml"
    source = json.dumps(str(CLIP))
    config.write_text(CONFIG.format(source=source, draw=draw))
    command = [sys.executable, "-m", "centernetd", "run", "-c", str(config)]
    environment = {**os.environ, "STATE_DIRECTORY": str(folder)}
    subprocess.run(command, env=environment, cwd=ROOT, check=True)


def choose(events: Path, truth: Path) -> int:
    """Return the frame with the fewest missed faces, then the most large ones, then their area."""
    frames = json.loads(truth.read_text())["frames"]
    merits: dict[int, tuple[int, int, float]] = {}
    for line in events.read_text().splitlines():
        event = json.loads(line)
        number, boxes = event["frame"], [found["box"] for found in event["detections"]]
        visible = sum(face["visible"] >= MOSTLY for face in frames[number])
        large = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes if y2 - y1 >= LARGE_FACE]
        merits[number] = (min(0, len(boxes) - visible), len(large), sum(large))
    return max(merits, key=merits.__getitem__)


def picture(recording: Path, number: int) -> Image:
    """Return frame ``number`` of ``recording`` as BGR."""
    with av.open(str(recording)) as container:
        frame = next(itertools.islice(container.decode(video=0), number, None))
        return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def side_by_side(left: Image, right: Image) -> Image:
    """Return both images side by side, `WIDTH` pixels wide together."""
    width = (WIDTH - GAP) // 2
    height = round(left.shape[0] * width / left.shape[1])
    halves = [
        cv2.resize(half, (width, height), interpolation=cv2.INTER_AREA) for half in (left, right)
    ]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    return np.asarray(np.hstack([halves[0], gap, halves[1]]), np.uint8)


def encode(image: Image) -> bytes:
    """Return ``image`` as the best JPEG of at most `LARGEST` bytes."""
    for quality in range(92, 0, -4):
        _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(content) <= LARGEST:
            return content.tobytes()
    raise RuntimeError(f"no quality makes it smaller than {LARGEST} bytes")


def main() -> None:
    """Record twice, choose a frame, write the image."""
    with tempfile.TemporaryDirectory() as name:
        folders = {draw: Path(name) / draw for draw in ("boxes", "blur")}
        for draw, folder in folders.items():
            folder.mkdir()
            record(draw, folder)
        number = choose(folders["boxes"] / "demo.jsonl", TRUTH)
        boxes, blurred = (picture(folder / "demo.mp4", number) for folder in folders.values())
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_bytes(encode(side_by_side(boxes, blurred)))
    print(f"{OUTPUT.relative_to(ROOT)}: frame {number}, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()

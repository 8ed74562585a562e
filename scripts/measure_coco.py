"""Measure what the built-in model `coco` finds in photographs, also when people are small.

Run ``python -m scripts.measure_coco`` (about ten minutes) after ``centernetd fetch coco``; needs
``pip install scikit-image`` for the photographs. Boxes and outlines were drawn by hand, and the
real command detects. The first table compares two ways to fit a picture into the input, the second
counts what is detected in pictures of nothing. The last ones scale cut-outs of two people down, at
random places of a lawn with sky above it.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import numpy as np

from centernetd.config import cache_dir
from centernetd.model import zoo
from scripts.make_demo import HEIGHT, WIDTH, Box, Image, Plane, cutout, paint

LEAST = "0.1"  # the lowest score of interest
THRESHOLDS = (0.2, 0.3, 0.4)
OVERLAP = 0.5  # IoU with the true box
PLACES = 24
HEIGHTS = (40, 60, 80, 120, 160, 240, 360)  # pixels of the frame
SIZES = ("512x512", "384x640", "736x1280")  # of the network's input

# Photographs of scikit-image: what is in them, and where.
PICTURES: dict[str, tuple[str, Box]] = {
    "astronaut.png": ("person", (14, 8, 370, 512)),
    "camera.png": ("person", (0, 64, 332, 512)),
    "motorcycle_left.png": ("motorcycle", (88, 25, 684, 455)),
    "motorcycle_right.png": ("motorcycle", (60, 25, 660, 455)),
    "chelsea.png": ("cat", (0, 0, 410, 300)),
    "coffee.png": ("cup", (172, 15, 412, 310)),
    "horse.png": ("horse", (12, 12, 388, 316)),
}
EMPTY = (
    "brick.png", "cell.png", "coins.png", "color.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png", "page.png",
    "phantom.png", "retina.jpg", "text.png",
)  # fmt: skip
# The photographer in camera.png with his camera, from the hair to the hem of his coat, clockwise.
# fmt: off
OUTLINE = [
    (163, 108), (170, 84), (190, 66), (216, 64), (250, 74), (270, 102), (271, 128), (325, 138),
    (333, 190), (325, 216), (300, 246), (286, 300), (244, 312), (206, 296), (188, 340), (146, 396),
    (152, 511), (0, 511), (0, 258), (36, 196), (72, 152), (120, 118),
]
# fmt: on
LAWN = 410  # in camera.png, the first column right of the tripod
PEOPLE: dict[str, Box] = {
    "astronaut, head to chest": (30, 16, 359, 340),
    "photographer, head to shin": (0, 64, 333, 512),
}


class Frame(NamedTuple):
    """A frame with one person."""

    name: str
    height: int
    image: Image
    truth: Box


def detect(pictures: Path, model: str, size: str) -> dict[str, list[dict[str, Any]]]:
    """Return the detections in each picture of a folder, by file name."""
    arguments = [str(pictures), "-m", model, "--input-size", size, "--confidence", LEAST, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "centernetd", "detect", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    )  # fmt: skip
    lines = map(json.loads, done.stdout.splitlines())
    return {Path(line["image"]).name: line["detections"] for line in lines}


def best(found: Iterable[dict[str, Any]], label: str, truth: Box) -> float:
    """Return the highest score of a box of this label that is in the right place, or 0."""
    return max(
        (
            float(each["score"])
            for each in found
            if each["label"] == label and iou(each["box"], truth) >= OVERLAP
        ),
        default=0.0,
    )


def iou(first: Box, second: Box) -> float:
    """Return the overlap of two boxes relative to their union."""
    sides = [
        max(0.0, min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis]))
        for axis in (0, 1)
    ]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    shared = sides[0] * sides[1]
    return shared / (sum(areas) - shared)


def compare_resizes(data: Path, folder: Path) -> None:
    """Print the score of what is in each picture, letterboxed and stretched."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for name in PICTURES:
        (pictures / name).write_bytes((data / name).read_bytes())
    export, stretched = str(zoo.fetched("coco", cache_dir())), str(folder / "stretched.onnx")
    prepare = [sys.executable, "-m", "centernetd", "prepare", export, "-o", stretched]
    subprocess.run([*prepare, "--resize", "stretch"], check=True, stdout=subprocess.DEVNULL)
    columns = [detect(pictures, model, "512x512") for model in ("coco", stretched)]
    print("| picture | | letterboxed | stretched |\n|---|---|---|---|")
    for name, (label, box) in PICTURES.items():
        scores = [best(found[name], label, box) for found in columns]
        print(f"| `{name}` | {label} | {' | '.join(f'{score:.2f}' for score in scores)} |")


def count_false_alarms(data: Path, folder: Path) -> None:
    """Print the number of detections in pictures without any of the classes."""
    pictures = folder / "empty"
    pictures.mkdir()
    for name in EMPTY:
        (pictures / name).write_bytes((data / name).read_bytes())
    found = [each for listed in detect(pictures, "coco", "512x512").values() for each in listed]
    print(f"\n| in {len(EMPTY)} empty pictures | {' | '.join(map(str, THRESHOLDS))} |")
    print("|---|" + "---|" * len(THRESHOLDS))
    persons = [each for each in found if each["label"] == "person"]
    for what, counted in (("detections", found), ("persons", persons)):
        counts = (sum(each["score"] >= least for each in counted) for least in THRESHOLDS)
        print(f"| {what} | {' | '.join(map(str, counts))} |")


def frames(data: Path) -> Iterator[Frame]:
    """Yield both people at every height, at random places."""
    astronaut, camera = (
        np.asarray(cv2.imread(str(data / name)), np.uint8)
        for name in ("astronaut.png", "camera.png")
    )
    mask = np.zeros(camera.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.array(OUTLINE, np.int32)], 1.0)
    soft = cv2.GaussianBlur(mask, (0, 0), 1)[:, :, None]
    photographer = np.concatenate([camera * soft, soft], axis=2).astype(np.float32)
    layers: tuple[Plane, Plane] = (cutout(astronaut), photographer)
    lawn = camera[:, LAWN:]
    wide = np.hstack([lawn, lawn[:, ::-1]] * 5)
    scene = cv2.resize(wide, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    dice = random.Random(1)  # noqa: S311
    for (name, box), layer in zip(PEOPLE.items(), layers, strict=True):
        for height in HEIGHTS:
            scale = height / (box[3] - box[1])
            width = scale * (box[2] - box[0])
            for _ in range(PLACES):
                x, y = dice.uniform(0, WIDTH - width), dice.uniform(0, HEIGHT - height)
                image = paint(scene, layer, (scale, x - scale * box[0], y - scale * box[1]))
                truth = (x, y, x + width, y + height)
                yield Frame(name, height, image.clip(0, 255).astype(np.uint8), truth)


def measure_heights(data: Path, folder: Path) -> None:
    """Print the share of people found, by height and threshold, for each size of the input."""
    pictures = folder / "frames"
    pictures.mkdir()
    truths = {}
    for number, frame in enumerate(frames(data)):
        name = f"{number:04}.png"
        cv2.imwrite(str(pictures / name), frame.image)
        truths[name] = frame._replace(image=np.empty(0, np.uint8))
    for size in SIZES:
        found = detect(pictures, "coco", size)
        print(f"\n| {size} | height in 1280x720 | {' | '.join(map(str, THRESHOLDS))} |")
        print("|---|---|" + "---|" * len(THRESHOLDS))
        for person in PEOPLE:
            for height in HEIGHTS:
                scores = [
                    best(found[name], "person", frame.truth)
                    for name, frame in truths.items()
                    if (frame.name, frame.height) == (person, height)
                ]
                shares = (np.mean(np.array(scores) >= least) for least in THRESHOLDS)
                print(f"| {person} | {height} | {' | '.join(f'{s:.0%}' for s in shares)} |")


def main() -> None:
    """Print the tables."""
    from skimage import data

    photographs = Path(data.__file__).parent
    with TemporaryDirectory() as name:
        compare_resizes(photographs, Path(name))
        count_false_alarms(photographs, Path(name))
        measure_heights(photographs, Path(name))


if __name__ == "__main__":
    main()

"""Count the faces that a blurred recording leaves open, on clips that did not choose its settings.

Run as ``python -m scripts.measure_blur`` (a quarter of an hour); needs ``pip install scikit-image
matplotlib mahotas`` for the photographs, `PEOPLE`. They move on random paths over a backdrop, also
out of the picture, so the true boxes, which were drawn by hand, are known in every frame. Each clip
is recorded by the real command. A face counts as open where less than half of what is visible of
its box is filled in the recording itself, whatever was detected.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from math import pi, sin, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from centernetd.sink.privacy import GREY
from scripts.make_demo import Box, Image, Plane, backdrop, cutout

NOISE = 8  # of 255: effect of the encoder on a uniform grey
LEAST_VISIBLE = (0.3, 0.9)
LARGE = 40  # pixels of height
FACES = 6  # in a clip, if there is room
TRIES = 400
REACH = 0.15  # of the frame: how far a face moves from the middle of its path
AS_SHIPPED: Mapping[str, Any] = {}
AS_BEFORE: Mapping[str, Any] = {"confidence": 0.4, "hold": "0s"}


class Person(NamedTuple):
    """A photograph: its module and path there, the part used, and the face, drawn by hand."""

    package: str
    path: str
    part: tuple[int, int, int, int]
    face: Box


SITTER = "Eileen Collins: frontal"  # the one in the demo
PEOPLE = {
    # NASA, in the public domain
    SITTER: Person("skimage", "data/astronaut.png", (0, 0, 512, 512), (177, 62, 270, 178)),
    # US Navy, in the public domain
    "Grace Hopper: frontal, glasses, cap": Person(
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        (40, 0, 480, 480),
        (162, 137, 365, 334),
    ),
    # MIT, like all of mahotas
    "Luis Pedro Coelho: half turned": Person(
        "mahotas", "demos/data/luispedro.jpg", (0, 0, 300, 377), (44, 74, 228, 322)
    ),
    # CC0 by Lav Varshney
    "the photographer: profile, grey": Person(
        "skimage", "data/camera.png", (60, 60, 400, 330), (195, 122, 255, 197)
    ),
}


@dataclass(frozen=True)
class Portrait:
    """Premultiplied float32 RGBA [height, width, 4], and the face in it."""

    layer: Plane
    face: Box


@dataclass(frozen=True)
class Path2D:
    """Path of a face: centre and height, each with a mean, an amplitude, a rate and a phase."""

    name: str
    x: tuple[float, float, float, float]
    y: tuple[float, float, float, float]
    height: tuple[float, float, float, float]

    def at(self, time: float, portrait: Portrait) -> tuple[float, float, float]:
        """Return scale and shift from the portrait to the frame."""
        x, y, height = (
            mean + swing * sin(2 * pi * (rate * time + phase))
            for mean, swing, rate, phase in (self.x, self.y, self.height)
        )
        x1, y1, x2, y2 = portrait.face
        scale = height / (y2 - y1)
        return scale, x - scale * (x1 + x2) / 2, y - scale * (y1 + y2) / 2


class Face(NamedTuple):
    """A face in one frame: its person, clipped box, height, and visible share."""

    name: str
    box: Box
    height: float
    visible: float


@dataclass(frozen=True)
class Clip:
    """A clip's content; the size is (width, height)."""

    seed: int
    size: tuple[int, int]
    rate: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.size[0]}x{self.size[1]}, {self.rate} frames/s"


def _photo(person: Person) -> Image:
    found = find_spec(person.package)
    if found is None or found.origin is None:
        raise SystemExit(f"pip install the package of {person.package} first")
    photo = cv2.imread(str(Path(found.origin).parent / person.path))
    if photo is None:
        raise SystemExit(f"{person.package} has no {person.path}")
    return np.ascontiguousarray(photo[:, :, ::-1], np.uint8)


def portraits() -> dict[str, Portrait]:
    """Return all portraits, with soft edges."""
    return {name: _portrait(person) for name, person in PEOPLE.items()}


def _portrait(person: Person) -> Portrait:
    photo = _photo(person)
    if person is PEOPLE[SITTER]:
        return Portrait(cutout(photo), person.face)
    left, top, right, bottom = person.part
    photo = photo[top:bottom, left:right]
    edge = max(photo.shape[:2]) // 16
    mask = np.zeros(photo.shape[:2], np.float32)
    mask[edge:-edge, edge:-edge] = 1
    soft = cv2.GaussianBlur(mask, (0, 0), edge / 3)[:, :, None]
    x1, y1, x2, y2 = person.face
    face = (x1 - left, y1 - top, x2 - left, y2 - top)
    return Portrait(np.concatenate([photo * soft, soft], axis=2).astype(np.float32), face)


def placed(box: Box, scale: float, x: float, y: float) -> Box:
    """Transform a box of a portrait to the frame."""
    return scale * box[0] + x, scale * box[1] + y, scale * box[2] + x, scale * box[3] + y


def paths(clip: Clip, people: Mapping[str, Portrait]) -> list[Path2D]:
    """Return paths on which no portrait ever covers another."""
    dice, found = random.Random(clip.seed), []  # noqa: S311
    taken: list[list[Box]] = []
    for _ in range(TRIES):
        path = _path(clip, dice)
        portrait = people[path.name]
        whole = (0.0, 0.0, float(portrait.layer.shape[1]), float(portrait.layer.shape[0]))
        moments = range(10 * clip.seconds)
        way = [placed(whole, *path.at(tenth / 10, portrait)) for tenth in moments]
        if not any(_overlap(a, b) for other in taken for a, b in zip(way, other, strict=True)):
            found.append(path)
            taken.append(way)
        if len(found) == FACES:
            break
    return found


def _path(clip: Clip, dice: random.Random) -> Path2D:
    width, height = clip.size
    size = height * 0.05 * 6 ** dice.random()

    def wave(middle: float, swing: float) -> tuple[float, float, float, float]:
        return middle, swing, dice.uniform(0.05, 0.25), dice.random()

    return Path2D(
        dice.choice(sorted(PEOPLE)),
        wave(dice.uniform(0, width), dice.uniform(0, REACH) * width),
        wave(dice.uniform(0, height), dice.uniform(0, REACH) * height),
        wave(size, dice.uniform(0, 0.2) * size),
    )


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def truth(clip: Clip, ways: Iterable[Path2D], people: Mapping[str, Portrait]) -> list[list[Face]]:
    """Return the faces of each frame."""
    width, height = clip.size
    frames = []
    for number in range(clip.rate * clip.seconds):
        faces = []
        for way in ways:
            x1, y1, x2, y2 = placed(
                people[way.name].face, *way.at(number / clip.rate, people[way.name])
            )
            box = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
            if box[0] < box[2] and box[1] < box[3]:
                visible = (box[2] - box[0]) * (box[3] - box[1]) / ((x2 - x1) * (y2 - y1))
                faces.append(Face(way.name, box, y2 - y1, visible))
        frames.append(faces)
    return frames


def pictures(clip: Clip, ways: Iterable[Path2D], people: Mapping[str, Portrait]) -> Iterator[Image]:
    """Yield the frames of a clip, uint8 RGB."""
    empty = cv2.resize(backdrop(_photo(PEOPLE[SITTER])), clip.size)[:, :: (-1) ** clip.seed]
    for number in range(clip.rate * clip.seconds):
        canvas = empty.astype(np.float32)
        for way in ways:
            _paint(canvas, people[way.name].layer, *way.at(number / clip.rate, people[way.name]))
        yield canvas.clip(0, 255).round().astype(np.uint8)


def _paint(canvas: Plane, layer: Plane, scale: float, x: float, y: float) -> None:
    """Draw a portrait onto ``canvas``, low-pass filtered first if it shrinks."""
    height, width = layer.shape[:2]
    x1, y1 = max(int(x), 0), max(int(y), 0)
    x2 = min(int(x + scale * width) + 1, canvas.shape[1])
    y2 = min(int(y + scale * height) + 1, canvas.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    if scale < 1:
        layer = cv2.GaussianBlur(layer, (0, 0), 0.5 / scale).astype(np.float32, copy=False)
    matrix = np.array([[scale, 0, x - x1], [0, scale, y - y1]])
    shown = cv2.warpAffine(layer, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR)
    below = canvas[y1:y2, x1:x2]
    below[:] = shown[:, :, :3] + below * (1 - shown[:, :, 3:])


def encode(path: Path, clip: Clip, images: Iterable[Image]) -> None:
    """Write a clip as a camera would: H.264, yuv420p."""
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "preset": "veryfast"}
        stream = container.add_stream("libx264", clip.rate, options=options)
        stream.width, stream.height = clip.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, clip.rate)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def record(source: Path, folder: Path, blur: Mapping[str, Any]) -> Path:
    """Make the daemon record a clip with ``blur``; return the recording."""
    folder.mkdir()
    stream = {"source": str(source), "privacy": {"blur": dict(blur)}, "record": {"draw": "none"}}
    settings = {"version": 1, "streams": {"clip": stream}, "metrics": {"listen": None}}
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "centernetd", "run", "-c", str(config)]
    environment = {**os.environ, "STATE_DIRECTORY": str(folder)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return folder / "clip.mp4"


def covered(video: Path, frames: Iterable[Iterable[Face]]) -> Iterator[tuple[int, Face, float]]:
    """Yield each face of each frame, with the share of it that is filled in the recording."""
    with av.open(str(video)) as container:
        decoded = container.decode(video=0)
        for number, (frame, faces) in enumerate(zip(decoded, frames, strict=True)):
            image = frame.to_ndarray(format="rgb24").astype(np.int16)
            filled = np.abs(image - GREY).max(axis=2) <= NOISE
            for face in faces:
                x1, y1, x2, y2 = (int(edge) for edge in face.box)
                yield number, face, float(filled[y1 : y2 + 1, x1 : x2 + 1].mean())


@dataclass
class Tally:
    """Counts of faces and open faces, by visible share and size."""

    seen: Counter[tuple[float, bool]] = field(default_factory=Counter)
    open: Counter[tuple[float, bool]] = field(default_factory=Counter)

    def add(self, face: Face, share: float) -> None:
        """Count a face of which ``share`` is covered."""
        for least in LEAST_VISIBLE:
            if face.visible >= least:
                kind = least, face.height >= LARGE
                self.seen[kind] += 1
                self.open[kind] += share < 0.5

    def __str__(self) -> str:
        kinds = [(least, large) for least in LEAST_VISIBLE for large in (True, False)]
        return " | ".join(_of(self.open[kind], self.seen[kind]) for kind in kinds)


def _of(count: int, total: int) -> str:
    """Format a share with its 95 % Wilson interval, as if frames were independent."""
    if not total:
        return "-"
    share, z = count / total, 1.96
    middle = share + z * z / (2 * total)
    spread = z * sqrt((share * (1 - share) + z * z / (4 * total)) / total)
    low, high = ((middle + sign * spread) / (1 + z * z / total) for sign in (-1, 1))
    return f"{count} of {total} ({100 * max(low, 0):.1f} to {100 * high:.1f} %)"


CLIPS = (
    ((320, 240), 25, 6),
    ((1280, 720), 5, 10),
    ((1280, 720), 25, 6),
    ((1920, 1080), 30, 5),
    ((3840, 2160), 30, 3),
)
HEAD = "| | >= 30 % visible, >= 40 px | >= 30 %, smaller | >= 90 %, >= 40 px | >= 90 %, smaller |"


class Report:
    """Counts for one setting, by clip and by person, and runs of open frames."""

    def __init__(self) -> None:
        self.rows: dict[str, Tally] = {}
        self.misses: Counter[tuple[str, str]] = Counter()

    def count(self, clip: Clip, video: Path, faces: Iterable[Iterable[Face]]) -> None:
        """Add a recording."""
        for _, face, share in covered(video, faces):
            for row in (str(clip), face.name):
                self.rows.setdefault(row, Tally()).add(face, share)
            if share < 0.5 and face.visible >= min(LEAST_VISIBLE):
                part = "whole" if face.visible == 1 else "cut by the edge"
                size = f"{round(face.height, -1):.0f} px, {part}"
                self.misses[f"seed {clip.seed}, {clip}: {face.name}", size] += 1

    def show(self) -> None:
        """Print the report."""
        print(f"{HEAD}\n|---|---|---|---|---|")
        for row, tally in sorted(self.rows.items()):
            print(f"| {row} | {tally} |")
        for (where, size), count in self.misses.items():
            print(f"open {count} times: {where}, {size}")


def main() -> None:
    """Measure, and print a table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=int, nargs="+", help="720p at these frames/s only")
    parser.add_argument("--before", action="store_true", help="also at 0.4 without a hold")
    options = parser.parse_args()
    settings = {"as shipped": AS_SHIPPED}
    if options.before:
        settings["confidence: 0.4, hold: 0s"] = AS_BEFORE
    people = portraits()
    reports = {setting: Report() for setting in settings}
    kinds = [((1280, 720), rate, 10) for rate in options.rates] if options.rates else CLIPS
    for clip in (Clip(seed, *kind) for seed in options.seeds for kind in kinds):
        with tempfile.TemporaryDirectory() as name:
            source, ways = Path(name) / "clip.mp4", paths(clip, people)
            encode(source, clip, pictures(clip, ways, people))
            faces = truth(clip, ways, people)
            for setting, blur in settings.items():
                reports[setting].count(clip, record(source, Path(name) / setting, blur), faces)
        print(f"seed {clip.seed}, {clip}", file=sys.stderr, flush=True)
    for setting, report in reports.items():
        print(f"\n{setting}\n")
        report.show()


if __name__ == "__main__":
    main()

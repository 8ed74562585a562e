"""Make the demo clip, assets/demo.mp4, and its ground truth, assets/demo.json.

Run ``python -m scripts.make_demo`` (about a minute); needs ``pip install scikit-image`` for the
photograph: a portrait of the astronaut Eileen Collins by NASA, in the public domain. Her cut-out
moves over a blurred backdrop on known paths, so the true face boxes of every frame are known.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import combinations
from math import pi, sin
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Box = tuple[float, float, float, float]

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WIDTH, HEIGHT, RATE, FRAMES = 1280, 720, 25, 250

# CenterFace's box of the face in the photograph: the median over input sizes of 384, 448, ... 1280
# pixels, letterboxed (individual boxes differ by some 5 pixels), rounded.
FACE: Box = (178, 58, 271, 178)
FACE_CENTRE = ((FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2)
FACE_HEIGHT = FACE[3] - FACE[1]

# Outline of hair, collar and shoulders, clockwise from the left ear, drawn by hand. It includes the
# shoulders because for the head alone CenterFace misses most faces under 60 pixels.
# fmt: off
OUTLINE = [
    (160, 106), (153, 86), (154, 68), (174, 43), (196, 25), (230, 16), (262, 25), (284, 45),
    (298, 70), (298, 95), (288, 116), (270, 132), (262, 150), (258, 172), (280, 190), (299, 216),
    (305, 235), (335, 256), (352, 290), (359, 345), (359, 380), (30, 380), (36, 320), (46, 270),
    (66, 242), (94, 221), (114, 206), (113, 198), (117, 178), (131, 161), (156, 150), (183, 150),
    (181, 132), (172, 126),
]
# fmt: on
FADE = (270, 370)  # rows over which the chest fades out
CUTOUT: Box = (30, 16, 359, 380)  # bounding box of OUTLINE


@dataclass(frozen=True)
class Wave:
    """A sinusoidal value: ``periods`` times in the clip, starting at ``phase`` turns."""

    mean: float
    swing: float
    periods: float = 1
    phase: float = 0

    def at(self, index: int) -> float:
        """Return the value in frame ``index``."""
        return self.mean + self.swing * sin(2 * pi * (self.periods * index / FRAMES + self.phase))


@dataclass(frozen=True)
class Path2D:
    """Path of one face: the centre and height of its box, in pixels of the clip."""

    x: Wave
    y: Wave
    height: Wave

    def placement(self, index: int) -> tuple[float, float, float]:
        """Return scale and shift (x, y) from the photograph to frame ``index``."""
        scale = self.height.at(index) / FACE_HEIGHT
        x, y = self.x.at(index), self.y.at(index)
        return scale, x - scale * FACE_CENTRE[0], y - scale * FACE_CENTRE[1]

    def place(self, box: Box, index: int) -> Box:
        """Transform a box of the photograph to frame ``index``."""
        scale, x, y = self.placement(index)
        return (scale * box[0] + x, scale * box[1] + y, scale * box[2] + x, scale * box[3] + y)


FACES = [
    Path2D(Wave(340, 25), Wave(480, 20, 2), Wave(185, 35, 1, 0.75)),
    Path2D(Wave(1100, 20, 2), Wave(490, 20, 1), Wave(105, 15, 2, 0.25)),
    Path2D(Wave(1190, 180, 1, 0.55), Wave(115, 15, 2), Wave(70, 6, 1)),
    Path2D(Wave(780, 40, 1, 0.3), Wave(190, 20, 2), Wave(58, 7, 2)),
    Path2D(Wave(770, 15, 2, 0.5), Wave(620, 155, 1), Wave(82, 6, 1, 0.25)),
    Path2D(Wave(560, 30, 1), Wave(70, 15, 2), Wave(47, 6, 1)),
    Path2D(Wave(330, 50, 1), Wave(90, 15, 2), Wave(30, 6, 1)),
    Path2D(Wave(60, 110, 1, 0.25), Wave(90, 15, 1), Wave(57, 4, 1)),
]


@dataclass(frozen=True)
class Face:
    """A true face: its box clipped to the frame, and the visible share."""

    id: int
    box: list[float]
    height: float
    visible: float


def truth(index: int) -> list[Face]:
    """Return the faces in frame ``index``, except those entirely outside of it."""
    faces = []
    for number, path in enumerate(FACES):
        x1, y1, x2, y2 = path.place(FACE, index)
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, WIDTH), min(y2, HEIGHT)
        if left < right and top < bottom:
            visible = (right - left) * (bottom - top) / ((x2 - x1) * (y2 - y1))
            box = [round(value, 2) for value in (left, top, right, bottom)]
            faces.append(Face(number, box, round(y2 - y1, 2), round(visible, 4)))
    return faces


def refuse_overlaps() -> None:
    """Raise `ValueError` if one cut-out would cover another: the truth has no hidden faces."""
    for index in range(FRAMES):
        boxes = [path.place(CUTOUT, index) for path in FACES]
        for (m, a), (n, b) in combinations(enumerate(boxes), 2):
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
                raise ValueError(f"faces {m} and {n} overlap in frame {index}")


def backdrop(photo: Image) -> Plane:
    """Return the area right of the sitter, mirrored, blurred and darkened."""
    half = photo[:233, 305:]
    scene = cv2.resize(np.hstack([half[:, ::-1], half]), (WIDTH, HEIGHT))
    return (cv2.GaussianBlur(scene, (0, 0), 7) * 0.6).astype(np.float32)


def cutout(photo: Image) -> Plane:
    """Return the photograph as premultiplied float32 RGBA, transparent outside OUTLINE."""
    shape = np.zeros(photo.shape[:2], np.float32)
    cv2.fillPoly(shape, [np.array(OUTLINE, np.int32)], 1.0)
    fade = np.interp(np.arange(len(shape)), FADE, (1, 0))
    edge = (2 * cv2.GaussianBlur(shape, (0, 0), 3) - 1).clip(0, 1)  # soft, inside the outline
    mask = (edge * fade[:, None])[:, :, None]
    return np.concatenate([photo * mask, mask], axis=2).astype(np.float32)


def paint(canvas: Plane, head: Plane, placement: tuple[float, float, float]) -> Plane:
    """Return ``canvas`` with ``head`` on top, low-pass filtered first if it shrinks."""
    scale, x, y = placement
    if scale < 1:
        head = cv2.GaussianBlur(head, (0, 0), 0.5 / scale).astype(np.float32, copy=False)
    matrix = np.array([[scale, 0, x], [0, scale, y]])
    layer = cv2.warpAffine(head, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    return layer[:, :, :3] + canvas * (1 - layer[:, :, 3:])


def frames() -> Iterator[Image]:
    """Yield the frames of the clip, uint8 RGB."""
    from skimage import data  # imported here, so that `truth` works without it

    astronaut: Callable[[], Image] = data.astronaut
    photo = astronaut()
    empty, head = backdrop(photo), cutout(photo)
    for index in range(FRAMES):
        canvas = empty
        for path in FACES:
            canvas = paint(canvas, head, path.placement(index))
        yield canvas.clip(0, 255).round().astype(np.uint8)


def encode(path: Path) -> None:
    """Write the clip as H.264, yuv420p, tagged as BT.709 in limited range."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": "23", "preset": "slow", "threads": "1"}  # threads change the bits
        stream = container.add_stream("libx264", RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, RATE)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for index, picture in enumerate(frames()):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    """Write both files, after checking the paths for overlaps."""
    refuse_overlaps()
    encode(ASSETS / "demo.mp4")
    rows = [json.dumps([asdict(face) for face in truth(index)]) for index in range(FRAMES)]
    text = f'{{"width": {WIDTH}, "height": {HEIGHT}, "rate": {RATE}, "frames": [\n'
    (ASSETS / "demo.json").write_text(text + ",\n".join(rows) + "\n]}\n")


if __name__ == "__main__":
    main()

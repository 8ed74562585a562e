"""Still images: what can be read, what is found, what is written."""

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from centernetd.commands.detect import StillDetector, find_images, read_image, save
from centernetd.errors import SinkError, SourceError
from centernetd.inference.detector import Detector
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.model import manifest as manifests
from tests import exports, models
from tests.commandline import RED, CommandLine, squares_model
from tests.fakes import FakeEngine, image
from tests.manifests import plain

PICTURE = models.draw((96, 160), RED)  # not the network's shape, nor square
BOX = RED[1]
CMYK = Path(__file__).parent / "data" / "cmyk.jpg"  # of PICTURE, written by Pillow
MANIFEST = plain(labels=tuple(f"colour {number}" for number in range(14)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_model(tmp_path_factory.mktemp("model"))


def write(path: Path, picture: MatLike = PICTURE) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def turned(path: Path) -> Path:
    """Write PICTURE as a camera held upright does: lying, with EXIF orientation 6."""
    lying = cv2.rotate(PICTURE, cv2.ROTATE_90_COUNTERCLOCKWISE)
    _, jpeg = cv2.imencode(".jpg", lying)
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    content = jpeg.tobytes()
    path.write_bytes(content[:2] + segment + content[2:])
    return path


def test_boxes_are_in_the_image_s_own_pixels(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    names = [
        write(tmp_path / "plain.png"),
        write(tmp_path / "sixteen.png", PICTURE.astype(np.uint16) * 257),
        write(tmp_path / "alpha.png", cv2.cvtColor(PICTURE, cv2.COLOR_BGR2BGRA)),
        turned(tmp_path / "turned.jpg"),
        CMYK,
    ]
    outcome = cli("detect", *names, "-m", model, "--json")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line["image"] for line in lines] == [str(name) for name in names]
    for line in lines:
        assert (line["width"], line["height"]) == (160, 96)
        (found,) = line["detections"]
        assert (found["label"], found["class_id"]) == ("red", 0)
        assert found["box"] == pytest.approx(BOX, abs=1.5), line["image"]


def test_one_line_an_image(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    grey = write(tmp_path / "grey.png", cv2.cvtColor(PICTURE, cv2.COLOR_BGR2GRAY))
    tiny = write(tmp_path / "tiny.png", PICTURE[:1, :1])
    red = write(tmp_path / "red.png")
    outcome = cli("detect", grey, tiny, red, "-m", model)
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        f"{grey}: nothing found",
        f"{tiny}: nothing found",
        f"{red}: 1 red",
    ]


def test_what_cannot_be_read_is_named_and_passed_over(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    good = write(tmp_path / "good.jpg")
    bad = {
        "empty.jpg": (b"", "the file is empty"),
        "text.png": (b"hello", "is not an image that can be decoded"),
        "cut.jpg": (good.read_bytes()[:100], "is not an image that can be decoded"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    outcome = cli("detect", tmp_path, tmp_path / "no.png", "-m", model, "--json")
    assert outcome.code == 1
    reasons = {name: reason for name, (_, reason) in bad.items()}
    reasons["no.png"] = "can't be read: no such file or directory"
    for name, reason in reasons.items():
        assert f"centernetd: {tmp_path / name}: {reason}\n" in outcome.err
    records = {Path(line["image"]).name: line for line in map(json.loads, outcome.out.splitlines())}
    assert {name: records[name]["error"] for name in reasons} == reasons
    assert len(records.pop("good.jpg")["detections"]) == 1


def test_a_camera_is_no_image_and_shown_without_its_password(cli: CommandLine, model: Path) -> None:
    outcome = cli("detect", "rtsp://viewer:hunter2@h/x", "-m", model)
    assert outcome.code == 1
    assert "centernetd: rtsp:/***@h/x: can't be read: no such file or directory\n" in outcome.err
    assert "hunter2" not in outcome.err


def test_draws_into_copies_and_overwrites_nothing(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sources = [write(tmp_path / "a.png"), write(tmp_path / "b.webp"), write(tmp_path / "c.jpg")]
    before = [source.read_bytes() for source in sources]
    for _ in range(2):
        assert cli("detect", *sources, "-m", model, "-o", out).code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "a-1.png",
        "a.png",
        "b-1.png",
        "b.png",
        "c-1.jpg",
        "c.jpg",
    ]
    assert cli("detect", *sources, "-m", model, "-o", tmp_path).code == 0
    assert [source.read_bytes() for source in sources] == before
    drawn = read_image(out / "a.png")
    assert drawn.shape == PICTURE.shape
    assert (drawn != PICTURE).any()


def test_confidence_and_input_size(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    red = write(tmp_path / "red.png")
    assert "nothing found" in cli("detect", red, "-m", model, "--confidence", "1").out
    outcome = cli("detect", red, "-m", model, "--input-size", "64x64")
    assert outcome.code == 78
    assert "prepared already, for an input of 128x128" in outcome.err


def test_a_missing_model(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    outcome = cli("detect", "x.png")
    assert outcome.code == 78
    assert outcome.err.startswith("centernetd: centerface: ")
    assert outcome.err.endswith("run `centernetd fetch centerface`\n")


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("max_batch", [1, 4])
def test_batches_keep_order_and_images(tmp_path: Path, max_batch: int, slots: int) -> None:
    """The fake engine's class is an image's own colour; a third of the files can't be read."""
    paths = [tmp_path / f"{number}.png" for number in range(14)]
    for number, path in enumerate(paths):
        if number % 3 == 1 or 8 <= number < 12:  # a whole batch among them
            path.write_text("text")
        else:
            write(path, image(4 * (number + 1), 6 * (number + 1), number))
    engine = FakeEngine((4, 6), max_batch)
    with ThreadPoolExecutor(2) as pool:
        detector = StillDetector(Detector(engine, MANIFEST, pool), max_batch, slots, None)
        stills = list(detector.run(paths))
    assert [still.path for still in stills] == paths
    for number, still in enumerate(stills):
        if number % 3 == 1 or 8 <= number < 12:
            assert still.image is None
        else:
            assert still.image is not None
            assert still.image.shape == (4 * (number + 1), 6 * (number + 1), 3)
            assert still.detections.class_id.tolist() == [number]
            scale = number + 1
            box = (scale, scale, 3 * scale, 3 * scale)
            assert still.detections.xyxy[0].tolist() == pytest.approx(box)


def test_images_of_many_sizes_in_one_batch_are_found_as_each_alone(
    model: Path, tmp_path: Path
) -> None:
    sizes = [(96, 160), (61, 333), (400, 90), (1, 1), (128, 128), (720, 1280), (97, 161)]
    pictures = [cv2.resize(PICTURE, size[::-1], interpolation=cv2.INTER_NEAREST) for size in sizes]
    paths = [write(tmp_path / f"{index}.png", picture) for index, picture in enumerate(pictures)]
    found = []
    for batch in (1, 4):
        engine = OrtCpuEngine(model, "float32", batch, concurrency=1)
        with ThreadPoolExecutor(2) as pool:
            detector = StillDetector(Detector(engine, manifests.read(model), pool), batch, 2, 0.5)
            found.append([still.detections for still in detector.run(paths)])
        engine.close()
    assert [len(of_one) for of_one in found[0]] == [len(of_one) for of_one in found[1]]
    assert sum(len(of_one) for of_one in found[0]) >= 3
    for alone, together in zip(*found, strict=True):
        np.testing.assert_allclose(alone.xyxy, together.xyxy, atol=1e-3)
        np.testing.assert_allclose(alone.confidence, together.confidence, atol=1e-5)


def test_joints_are_printed_and_drawn(cli: CommandLine, tmp_path: Path) -> None:
    network = exports.write(exports.multi_pose((64, 96)), tmp_path / "pose.onnx")
    picture = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    source, out = write(tmp_path / "a.png", picture), tmp_path / "out"
    outcome = cli(
        "detect", source, "-m", network, "--input-size", "64x96", "--json", "-o", out,
        "--confidence", "0.9",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = outcome.json["detections"]
    assert {len(detection["keypoints"]) for detection in found} == {4}
    points = [point for detection in found for point in detection["keypoints"]]
    seen = [(round(x), round(y)) for x, y, score in points if score > 0.1]
    drawn = read_image(out / "a.png")
    inside = [(x, y) for x, y in seen if 0 <= x < 96 and 0 <= y < 64]
    assert inside
    assert all((drawn[y, x] != picture[y, x]).any() for x, y in inside)


def test_names_mean_files_folders_and_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "with [brackets]"
    folder.mkdir()
    for name in ("b.JPG", "a.png", "notes.txt"):
        (folder / name).touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    inside = [folder / "a.png", folder / "b.JPG"]
    assert find_images([str(folder)]) == inside
    assert find_images([str(folder / "notes.txt"), str(folder)]) == [folder / "notes.txt", *inside]
    assert find_images([str(tmp_path / "*/*.txt")]) == [folder / "notes.txt"]
    assert find_images([str(folder), str(folder / "a.png")]) == inside
    nothing = [empty, tmp_path / "no*.png", tmp_path / "no.png"]
    assert find_images([str(path) for path in nothing]) == nothing


def test_a_folder_without_images_and_a_device_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="contains no image"):
        read_image(tmp_path)
    with pytest.raises(SourceError, match="can't be read: it is not a regular file"):
        read_image(Path("/dev/zero"))


def test_too_many_pixels_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("more than CV_IO_MAX_IMAGE_PIXELS")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(SourceError, match="can be decoded"):
        read_image(write(tmp_path / "a.png"))


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"file/x\.png: can't be written: (Not a|File exists)"):
        save(PICTURE, tmp_path / "file", "x.png")

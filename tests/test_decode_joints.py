"""The joints of `multi_pose` against CenterNet's own decode, stated in NumPy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from centernetd.model import manifest as manifests
from tests import exports, reference
from tests.exports import Array
from tests.onnx_sessions import prepared_session
from tests.reference import multi_pose
from tests.test_decode_reference import COLUMNS, ROWS, SIZE, jukebox

JOINTS = 5
FRAMES = 4
ALL = 1000  # more than there are cells
ROLES = ("hm", "wh", "hps", "reg", "hm_hp", "hp_offset")

Random = np.random.Generator
Heat = Callable[[Random, tuple[int, ...]], Array]


def peaky(random: Random, shape: tuple[int, ...]) -> Array:
    return random.normal(-1, 2, shape).astype(np.float32)


def quiet(random: Random, shape: tuple[int, ...]) -> Array:
    """Hardly a peak above the threshold."""
    return random.normal(-5, 1.5, shape).astype(np.float32)


def plateaus(random: Random, shape: tuple[int, ...]) -> Array:
    return random.integers(-3, 2, shape).astype(np.float32)


def border(random: Random, shape: tuple[int, ...]) -> Array:
    heat = np.full(shape, -9, np.float32)
    heat[..., [0, 0, -1, -1], [0, -1, 0, -1]] = random.uniform(0, 3, (*shape[:2], 4))
    return heat


def maps_of(heat: Heat, seed: int = 1) -> dict[str, Array]:
    """Heads as a network could give them: joints inside the box or a little outside."""
    random = np.random.default_rng(seed)

    def uniform(low: float, high: float, channels: int) -> Array:
        return random.uniform(low, high, (FRAMES, channels, ROWS, COLUMNS)).astype(np.float32)

    return {
        "hm": heat(random, (FRAMES, 1, ROWS, COLUMNS)),
        "wh": uniform(1, 9, 2),
        "hps": uniform(-4, 4, 2 * JOINTS),
        "reg": uniform(0, 1, 2),
        "hm_hp": heat(random, (FRAMES, JOINTS, ROWS, COLUMNS)),
        "hp_offset": uniform(0, 1, 2),
    }


def decoded(maps: dict[str, Array], folder: Path, top_k: int) -> tuple[Array, Array]:
    session = prepared_session(
        exports.export(exports.stored(maps), SIZE),
        folder,
        replace(exports.RAW_PIXELS, input_size=SIZE, top_k=top_k),
    )
    found, keypoints = session.run(["detections", "keypoints"], {"frames": jukebox(FRAMES)})
    return found, keypoints


@pytest.mark.parametrize(
    ("heat", "top_k"),
    [(peaky, 3), (peaky, 20), (peaky, ALL), (quiet, ALL), (border, ALL), (plateaus, ALL)],
)
def test_joints_are_matched_like_the_reference(heat: Heat, top_k: int, tmp_path: Path) -> None:
    maps = maps_of(heat)
    found, keypoints = decoded(maps, tmp_path, top_k)
    count = min(top_k, ROWS * COLUMNS)
    assert keypoints.shape == (FRAMES, count, JOINTS, 3)
    for row in range(FRAMES):
        expected = multi_pose({name: table[row] for name, table in maps.items()}, count)
        reference.assert_same(found[row], keypoints[row], expected)
    if heat is peaky:  # else nothing was tried
        moved = np.mean(keypoints[..., 2] > 0)
        assert 0.1 < moved < 0.9


@pytest.mark.parametrize(
    "missing", [{"reg"}, {"hp_offset"}, {"hm_hp", "hp_offset"}, {"reg", "hm_hp", "hp_offset"}]
)
def test_heads_that_may_be_missing(missing: set[str], tmp_path: Path) -> None:
    maps = {name: table for name, table in maps_of(peaky).items() if name not in missing}
    found, keypoints = decoded(maps, tmp_path, 10)
    for row in range(FRAMES):
        expected = multi_pose({name: table[row] for name, table in maps.items()}, 10)
        reference.assert_same(found[row], keypoints[row], expected)


def test_heads_without_names_are_taken_in_their_order(tmp_path: Path) -> None:
    maps = maps_of(peaky)
    numbered = {str(500 + index): maps[role] for index, role in enumerate(ROLES)}
    session = prepared_session(
        exports.export(exports.stored(numbered), SIZE),
        tmp_path,
        replace(exports.RAW_PIXELS, input_size=SIZE, layout="multi_pose"),
    )
    found, keypoints = session.run(["detections", "keypoints"], {"frames": jukebox(1)})
    expected = multi_pose({name: table[0] for name, table in maps.items()}, ROWS * COLUMNS)
    reference.assert_same(found[0], keypoints[0], expected)


def test_seventeen_joints_of_one_class_are_a_person_s(tmp_path: Path) -> None:
    maps = {
        "hm": np.zeros((1, 1, ROWS, COLUMNS), np.float32),
        "wh": np.ones((1, 2, ROWS, COLUMNS), np.float32),
        "hps": np.zeros((1, 34, ROWS, COLUMNS), np.float32),
    }
    prepared_session(
        exports.export(exports.stored(maps), SIZE),
        tmp_path,
        replace(exports.RAW_PIXELS, input_size=SIZE),
    )
    manifest = manifests.read(tmp_path / "prepared.onnx")
    assert (manifest.layout, manifest.labels) == ("multi_pose", ("person",))
    assert len(manifest.joints) == 17
    assert manifest.joints[:2] == ("nose", "left_eye")


def best_peak(heat: Array) -> tuple[int, int]:
    """Return the cell of a frame's best score that is nowhere near the border."""
    inner = heat[2:-2, 2:-2]
    row, column = np.unravel_index(inner.argmax(), inner.shape)
    return int(row) + 2, int(column) + 2


@pytest.mark.parametrize("role", ROLES)
def test_a_broken_cell_costs_no_more_than_what_is_found_there(role: str, tmp_path: Path) -> None:
    """NaN at one place of one head: what has to do with it isn't finite, all else stays.

    Where it is the offset of a joint's peak, that joint is where it was regressed.
    """
    maps = maps_of(peaky)
    of_joints = role in ("hm_hp", "hp_offset")
    where = best_peak(maps["hm_hp" if of_joints else "hm"][0, 0])
    broken, repaired = ({name: table.copy() for name, table in maps.items()} for _ in range(2))
    broken[role][(0, 0, *where)] = np.nan
    if role in ("hm", "hm_hp"):  # a broken score comes first: for the reference, the highest
        repaired[role][(0, 0, *where)] = 30
    sound, found = (decoded(given, tmp_path, 20) for given in (maps, broken))
    for before, after in zip(sound, found, strict=True):
        np.testing.assert_array_equal(before[1:], after[1:], "another frame changed")

    expected = multi_pose({name: table[0] for name, table in repaired.items()}, 20)
    rows, joints = (tensor[0] for tensor in found)
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(joints).all(axis=(1, 2))
    assert 15 <= finite.sum() < (21 if role == "hp_offset" else 20)
    apart = np.abs(expected.detections[None, :, :5] - rows[finite, None, :5]).max(axis=2)
    pairs = apart.argmin(axis=1)
    np.testing.assert_allclose(rows[finite], expected.detections[pairs], atol=1e-3)
    wanted = expected.keypoints[pairs]
    if role == "hp_offset":
        there = (np.abs(wanted[..., :2] / 4 - where[::-1] - 0.5) <= 0.5).all(axis=2)
        there &= wanted[..., 2] > 0
        assert there.any(), "no joint has moved there"
        wanted[there] = joints[finite][there]
        assert not joints[finite][there][..., 2].any()
    np.testing.assert_allclose(joints[finite], wanted, atol=1e-3)

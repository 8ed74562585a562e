"""A picture that doesn't change is noticed, a still scene is not taken for one."""

import numpy as np
from numpy.typing import NDArray

from daemon.capture.frozen import AFTER, FrozenPicture

STILL = np.random.default_rng(1).integers(0, 256, (1080, 64, 3), np.uint8)


def frozen_after(pictures: list[NDArray[np.uint8]], fps: float, seconds: float) -> float | None:
    """Return when the first was called frozen, if it was; they are shown over and over."""
    watching = FrozenPicture()
    for index in range(int(seconds * fps)):
        if watching.look(pictures[index % len(pictures)], 1000 + index / fps):
            return index / fps
    return None


def test_one_picture_over_and_over_is_frozen() -> None:
    for fps in (1, 12.5, 30):
        found = frozen_after([STILL], fps, 2 * AFTER)
        assert found is not None
        assert AFTER <= found <= AFTER + 2


def test_a_still_scene_has_noise() -> None:
    noisy = [STILL.copy() for _ in range(7)]
    for number, picture in enumerate(noisy):
        picture[8 * number, 3, 0] ^= 1
    assert frozen_after(noisy, 25, 3 * AFTER) is None


def test_a_loop_that_lasts_a_second_is_not_frozen() -> None:
    """One picture a second would always be the same one of it."""
    loop = [STILL, *[np.roll(STILL, n, axis=1) for n in range(1, 25)]]
    assert frozen_after(loop, 25, 2 * AFTER) is None


def test_a_clock_in_the_picture_is_seen_wherever_it_is() -> None:
    for top in (0, 501, 1040):
        picture = STILL.copy()
        picture[top : top + 20, 2:12] = 255
        assert frozen_after([STILL, picture], 1, 2 * AFTER) is None


def test_it_thaws_at_once() -> None:
    watching = FrozenPicture()
    for second in range(int(AFTER) + 2):
        frozen = watching.look(STILL, float(second))
    assert frozen
    assert not watching.look(STILL[:, ::-1], AFTER + 10)


def test_any_size_will_do() -> None:
    for shape in ((1, 1, 3), (17, 1023, 3), (127, 2, 3)):
        watching = FrozenPicture()
        padded = np.zeros((shape[0], shape[1] + 5, 3), np.uint8)[:, : shape[1]]
        assert not watching.look(padded, 0.0)
        assert watching.look(padded, AFTER)

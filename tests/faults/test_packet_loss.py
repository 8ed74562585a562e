"""Connections that lose packets, and what of it can be seen."""

import pytest

from tests.faults.conftest import Measure
from tests.rtsp import moving_square
from tests.test_damage import NOISE, distances, pictures

COUNT = 200


@pytest.mark.parametrize("percent", [5, 20])
def test_broken_pictures_are_held_back(percent: int, rounds: int, measure: Measure) -> None:
    """A camera's connection loses this percentage of its packets"""
    video = moving_square(count=100, rate=100)
    whole, _ = pictures(video, "play", 100)
    for _ in range(min(rounds, 3)):
        found, damaged = pictures(video, f"lose/{percent}", COUNT)
        broken = sum(distance > NOISE for distance in distances(found, whole))
        measure("broken", 100 * broken / COUNT, f"{damaged} were held back in the last try")

"""The script that measures every architecture fails where one is beyond its limits."""

from dataclasses import replace

import pytest

from centernetd.bench.profile import Profile
from scripts.make_zoo_table import Measured
from tests.export.equality import Difference

GOOD = Measured(10, 1e9, 30.0, 3.9e9, Profile(0.2, 0.01), Difference(9e-4, 9e-5))


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (GOOD, []),
        (replace(GOOD, seconds=1e6, taken=Profile(1e6, 0.9)), []),  # no timing is judged
        (replace(GOOD, memory=4.1e9), ["4.1e+09 bytes in memory, above 4e+09"]),
        (replace(GOOD, found=Difference(2e-3, 0)), ["0.002 pixels apart, above 0.001"]),
        (
            replace(GOOD, found=Difference(0, 0, 0.02)),
            ["0.02 of the decisions apart, above 0.01"],
        ),
        (replace(GOOD, found=Difference(0, 2e-4)), ["0.0002 of a score apart, above 0.0001"]),
    ],
)
def test_what_is_beyond_its_limits_is_told(measured: Measured, said: list[str]) -> None:
    assert measured.beyond() == said

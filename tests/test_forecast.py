"""How long a batch will take, and how large one may be."""

import pytest

from centernetd.inference.forecast import Forecast


def a_forecast(**seconds: float) -> Forecast:
    """Learn ``of_N=seconds`` of each size."""
    forecast = Forecast()
    for name, took in seconds.items():
        for _ in range(50):
            forecast.learn(int(name.removeprefix("of_")), took)
    return forecast


def test_nothing_is_known_at_first() -> None:
    assert Forecast().predict(8) == 0.0
    assert Forecast().largest(8, 0.0) == 8


def test_what_was_measured_is_predicted() -> None:
    forecast = a_forecast(of_1=0.1, of_4=0.2)
    assert forecast.predict(1) == pytest.approx(0.1)
    assert forecast.predict(4) == pytest.approx(0.2)


def test_it_follows_a_change_slowly() -> None:
    forecast = a_forecast(of_1=0.1)
    forecast.learn(1, 1.1)
    assert forecast.predict(1) == pytest.approx(0.3)
    for _ in range(20):
        forecast.learn(1, 1.1)
    assert forecast.predict(1) == pytest.approx(1.1, rel=0.02)


def test_an_unseen_size_lies_between_what_is_known() -> None:
    forecast = a_forecast(of_2=0.1, of_8=0.25)
    assert forecast.predict(1) == pytest.approx(0.1)
    assert forecast.predict(4) == pytest.approx(0.2)  # twice as many frames, twice as long
    assert forecast.predict(6) == pytest.approx(0.25)  # not longer than 8
    assert forecast.predict(16) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("budget", "size"), [(1.0, 8), (0.8, 8), (0.79, 7), (0.25, 2), (0.05, 1), (0.0, 1), (-1, 1)]
)
def test_the_largest_size_within_a_budget_is_at_least_1(budget: float, size: int) -> None:
    assert a_forecast(of_1=0.1, of_8=0.8001 - 1e-4).largest(8, budget + 1e-9) == size


def test_one_slow_batch_does_not_shut_its_size_out_for_good() -> None:
    forecast = a_forecast(of_8=0.1)
    forecast.learn(8, 60.0)
    smaller = forecast.largest(8, 0.5)
    assert smaller < 8
    forecast.learn(smaller, 0.03)
    assert forecast.largest(8, 0.5) == 8

"""A constant-velocity Kalman filter (Kalman, 1960) over many boxes, in seconds.

Centre, width and height are four independent coordinates, each with a velocity, so the
covariance is three numbers per coordinate and nothing is inverted. SORT (Bewley et al., 2016,
arXiv:1602.00763) filters boxes in this way, but per frame. Here the acceleration is white noise in
continuous time (Bar-Shalom, Li and Kirubarajan, 2001, section 6.2), so the frame rate may
change from one frame to the next. Errors grow with the box, as in DeepSORT (Wojke et al., 2017,
arXiv:1703.07402), so the resolution does not matter.

All arrays are float64 [4, N]: x and y of the centre, width and height, in pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

_MEASURED = 0.07  # error of a detected centre or side, as a share of the side on that axis
_ACCELERATION = 0.3  # box sizes per second, gained in one second
# of a new box, in box sizes per second: how fast its centre may move and its sides change
_VELOCITY = np.array([[1.0], [1.0], [0.2], [0.2]])
_CHANGE = _ACCELERATION * _VELOCITY


class Belief(NamedTuple):
    """What is known of boxes: means, and the variances and covariance of their errors."""

    position: Boxes
    velocity: Boxes
    position_variance: Boxes
    covariance: Boxes
    velocity_variance: Boxes


def begin(measured: Boxes) -> Belief:
    """Return what is known of boxes after one measurement."""
    unknown = np.zeros_like(measured)
    return Belief(
        measured, unknown, _noise(measured), unknown, np.square(_VELOCITY * _size(measured))
    )


def predict(belief: Belief, seconds: NDArray[np.float64]) -> Belief:
    """Move boxes ``seconds`` [N] ahead."""
    position, velocity, variance, covariance, velocity_variance = belief
    noise = np.square(_CHANGE * _size(position)) * seconds
    moved = covariance + seconds * velocity_variance
    noise_moved = noise * seconds
    return Belief(
        position + seconds * velocity,
        velocity,
        variance + seconds * (covariance + moved + noise_moved / 3),
        moved + noise_moved / 2,
        velocity_variance + noise,
    )


def correct(belief: Belief, measured: Boxes) -> Belief:
    """Combine predictions with measurements of the same boxes."""
    position, velocity, variance, covariance, velocity_variance = belief
    total = variance + _noise(measured)
    gain, velocity_gain = variance / total, covariance / total
    error = measured - position
    return Belief(
        position + gain * error,
        velocity + velocity_gain * error,
        variance - gain * variance,
        covariance - gain * covariance,
        velocity_variance - velocity_gain * covariance,
    )


def _noise(measured: Boxes) -> Boxes:
    """Return the variance of measured boxes; a side is at least one pixel."""
    variance = np.square(_MEASURED * np.maximum(measured[2:], 1.0))
    return np.concatenate((variance, variance))


def _size(boxes: Boxes) -> NDArray[np.float64]:
    """Return the mean of both sides [N], the unit of movement; at least one pixel."""
    size: NDArray[np.float64] = np.maximum(boxes[2] + boxes[3], 2.0) / 2
    return size

"""A constant-velocity Kalman filter (Kalman, 1960) over many boxes, in seconds.

Centre, width and height are four independent coordinates, each with a velocity, so the
covariance is three numbers per coordinate and nothing is inverted. SORT (Bewley et al., 2016,
arXiv:1602.00763) filters boxes in this way, but per frame. Here the acceleration is white noise in
continuous time (Bar-Shalom, Li and Kirubarajan, 2001, section 6.2), so that the frame rate may
change from one frame to the next.

All arrays are float64 [4, N]: x and y of the centre, width and height, in pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

_MEASURED = 0.05  # error of a detected side or centre, as a share of the box's side
_VELOCITY = 1.0  # unknown velocity of a new box, in box sizes per second
_ACCELERATION = 1.0  # box sizes per second, per square root of a second
_SHAPE = 0.3  # how much less the sides change than the centre moves


class Belief(NamedTuple):
    """Means and covariances: of positions, of velocities, and of both."""

    position: Boxes
    velocity: Boxes
    position_variance: Boxes
    covariance: Boxes
    velocity_variance: Boxes


def begin(measured: Boxes) -> Belief:
    """Return what is known of boxes after their first measurement."""
    zero = np.zeros_like(measured)
    scale = _scale(measured)
    return Belief(measured, zero, _noise(measured), zero, np.square(_VELOCITY * scale))


def predict(belief: Belief, seconds: NDArray[np.float64]) -> Belief:
    """Move boxes ``seconds`` [N] ahead."""
    position, velocity, variance, covariance, velocity_variance = belief
    noise = np.square(_ACCELERATION * _scale(position)) * seconds
    moved = covariance + seconds * velocity_variance
    return Belief(
        position + seconds * velocity,
        velocity,
        variance + seconds * (covariance + moved) + noise * np.square(seconds) / 3,
        moved + noise * seconds / 2,
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
    """Return the variance of measured boxes: centre and side err with the side on their axis."""
    sides = np.maximum(measured[2:], 1.0)
    return np.square(_MEASURED * np.concatenate((sides, sides)))


def _scale(boxes: Boxes) -> Boxes:
    """Return the size by which a box's movement is measured, per coordinate."""
    size = np.maximum(boxes[2] + boxes[3], 2.0) / 2
    return np.stack((size, size, _SHAPE * size, _SHAPE * size))

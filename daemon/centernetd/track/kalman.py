"""A constant-velocity Kalman filter (Kalman, 1960) over many boxes, in seconds.

Centre, width and height are four independent coordinates, each with a velocity, so the
covariance is three numbers per coordinate and nothing is inverted. SORT (Bewley et al., 2016,
arXiv:1602.00763) filters boxes in this way, but per frame. Here the acceleration is white noise in
continuous time (Bar-Shalom, Li and Kirubarajan, 2001, section 6.2), so the frame rate may
change from one frame to the next. Errors grow with the box, as in DeepSORT (Wojke et al., 2017,
arXiv:1703.07402), so the resolution does not matter.

What is known of N boxes is one array float64 [20, N], in pixels and seconds. For each of the four
coordinates it has the mean of the position, of the velocity, the variance of the position, its
covariance with the velocity, and the variance of the velocity. Sides are at least one pixel.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS = 20
_POSITION, _VELOCITY, _VARIANCE, _COVARIANCE, _VELOCITY_VARIANCE = (
    slice(start, start + 4) for start in range(0, ROWS, 4)
)
_SIDES = slice(2, 4)

_MEASURED = 0.07**2  # variance of a detected centre or side, in squares of the side on that axis
# Variance of a new box's velocity, in squares of box sizes per second: of its centre, of its sides
_UNKNOWN = np.array([[1.0], [1.0], [0.2], [0.2]]) ** 2
_ACCELERATION = 0.2**2 * _UNKNOWN  # by which the variance grows in one second


def begin(measured: Floats) -> Floats:
    """Return what is known of boxes after one measurement, [4, N]."""
    belief = np.zeros((ROWS, measured.shape[1]))
    belief[_POSITION] = measured
    belief[_VARIANCE] = _noise(measured)
    belief[_VELOCITY_VARIANCE] = _UNKNOWN * _squared_size(measured)
    return belief


def predict(belief: Floats, seconds: Floats) -> None:
    """Move boxes ``seconds`` [N] ahead, in place."""
    sides, covariance = belief[_SIDES], belief[_COVARIANCE]
    velocity_variance = belief[_VELOCITY_VARIANCE]
    noise = _ACCELERATION * (_squared_size(belief) * seconds)
    noise_moved = noise * seconds
    moved = velocity_variance * seconds
    belief[_POSITION] += belief[_VELOCITY] * seconds
    np.maximum(sides, 1.0, out=sides)
    belief[_VARIANCE] += (covariance + covariance + moved + noise_moved / 3) * seconds
    covariance += moved + noise_moved / 2
    velocity_variance += noise


def correct(belief: Floats, measured: Floats) -> None:
    """Combine predictions with measurements of the same boxes [4, N], in place."""
    position, variance, covariance = belief[_POSITION], belief[_VARIANCE], belief[_COVARIANCE]
    total = variance + _noise(measured)
    error = (measured - position) / total
    gain = covariance / total
    position += variance * error
    belief[_VELOCITY] += covariance * error
    belief[_VELOCITY_VARIANCE] -= covariance * gain
    covariance -= variance * gain
    variance -= variance * variance / total


def centre_error(belief: Floats) -> Floats:
    """Return the standard error of the centre's x and y, [2, N]."""
    error: Floats = np.sqrt(belief[_VARIANCE][:2])
    return error


def _noise(measured: Floats) -> Floats:
    """Return the variance of measured boxes [4, N]."""
    sides = measured[_SIDES]
    variance = sides * sides * _MEASURED
    return np.concatenate((variance, variance))


def _squared_size(boxes: Floats) -> Floats:
    """Return the square of the mean of both sides [N], the unit of movement."""
    size = boxes[2] + boxes[3]
    squared: Floats = size * size / 4
    return squared

"""Scores from an exported heatmap."""

import numpy as np

from centernetd.prepare.graph import Value
from centernetd.prepare.layouts.base import Network
from centernetd.prepare.upstream import ends_in_sigmoid


def scores_of(network: Network, output: Value, heat: Value) -> Value:
    """Return the scores in `heat`, a part of `output`, adding a sigmoid unless it has one.

    NaN becomes infinity, see `broken_first`.
    """
    if ends_in_sigmoid(network.model.graph, output.name):
        return broken_first(heat, heat)
    return broken_first(heat, heat.then("Sigmoid"))


def broken_first(heat: Value, scores: Value) -> Value:
    """Set the scores of NaNs in `heat` to infinity.

    Depending on the backend, sigmoid, pooling and top-k lose a NaN or spread it. Infinity always
    sorts first, and such a detection is dropped and reported.
    """
    return heat.then("IsNaN").then("Where", heat.graph.constant(np.inf), scores)

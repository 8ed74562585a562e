"""Scores from what an export calls a heatmap."""

import numpy as np

from centernetd.prepare.graph import Value
from centernetd.prepare.layouts.base import Network
from centernetd.prepare.upstream import ends_in_sigmoid


def scores_of(network: Network, output: Value, heat: Value) -> Value:
    """Return the scores in `heat`, a part of `output`: with a sigmoid unless it has one.

    NaN becomes infinite, see `broken_first`.
    """
    if ends_in_sigmoid(network.model.graph, output.name):
        return broken_first(heat, heat)
    return broken_first(heat, heat.then("Sigmoid"))


def broken_first(heat: Value, scores: Value) -> Value:
    """Set the scores of what is NaN in `heat` to infinity.

    Sigmoid, pooling and the search for the best lose a NaN here and spread it there, by
    backend. Infinity comes out first everywhere, and a detection with it is dropped and told.
    """
    return heat.then("IsNaN").then("Where", heat.graph.constant(np.inf), scores)

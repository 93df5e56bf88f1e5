"""In which order neurons lie along a body, from how far apart they come.

Positions are (t, n, 2) in µm, NaN where a neuron is not known.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

FAR = 0.9  # quantile over frames of the distance of two neurons: near their distance along the body
SAMPLED = 400  # frames at most that the distances are taken from


def along_body(positions_um: np.ndarray) -> np.ndarray:
    """Return where neurons lie along the body (n,), in µm from the first; NaN where that cannot be told.

    The neurons are joined by the minimum spanning tree of their distances; its longest path runs along the body, and
    each neuron lies where its branch leaves the path. Which end is the head is not known.
    """
    distance = _distances(positions_um)
    seen = np.isfinite(distance).sum(axis=1) > 1
    places = np.full(len(distance), np.nan)
    if seen.sum() < 2:
        return places
    between = distance[np.ix_(seen, seen)]
    # Pairs that are never seen together are joined through others; 0 would be no edge.
    weights = np.where(np.isfinite(between), np.maximum(between, 1e-6), 0)
    np.fill_diagonal(weights, 0)
    tree = minimum_spanning_tree(weights)
    start = _farthest(dijkstra(tree, directed=False, indices=0))
    from_start = dijkstra(tree, directed=False, indices=start)
    end = _farthest(from_start)
    from_end = dijkstra(tree, directed=False, indices=end)
    place = (from_start - from_end + from_start[end]) / 2
    places[seen] = np.where(np.isfinite(place), place, np.nan)
    return places


def _distances(positions_um: np.ndarray) -> np.ndarray:
    chosen = np.unique(np.linspace(0, len(positions_um) - 1, SAMPLED).round().astype(int))
    sample = positions_um[chosen]
    count = sample.shape[1]
    result = np.full((count, count), np.nan)
    for neuron in range(count):
        apart = np.hypot(*np.moveaxis(sample - sample[:, neuron : neuron + 1], -1, 0))
        together = np.isfinite(apart).any(axis=0)
        result[neuron, together] = np.nanquantile(apart[:, together], FAR, axis=0)
    return result


def _farthest(distances: np.ndarray) -> int:
    return int(np.argmax(np.where(np.isfinite(distances), distances, -1.0)))


def nearest_places(positions_um: np.ndarray, line_um: np.ndarray) -> np.ndarray:
    """Return how far along a fine line (m, 2) of equal steps the points (n, 2) lie, from 0 to 1."""
    square = ((positions_um[:, None] - line_um[None]) ** 2).sum(axis=-1)
    return np.asarray(square.argmin(axis=1) / (len(line_um) - 1))

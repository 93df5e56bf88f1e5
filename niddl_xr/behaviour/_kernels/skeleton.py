"""From the skeleton of a mask to one path, end to end.

Pixels are (n, 2) as (row, column); the skeleton itself is made elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

HOOK = 0.5  # of the radius at an end: how much of the skeleton there may run into a corner of the outline
TANGENT = 1.5  # radii over which the direction at an end is measured
_HALF_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))


class Path(NamedTuple):
    """The longest way through a skeleton: pixels (n, 2) in order, and the longest branch beside it in pixels."""

    pixels: np.ndarray
    branch_px: float


def skeleton_graph(skeleton: np.ndarray) -> tuple[np.ndarray, csr_array]:
    """Return the pixels (n, 2) of a skeleton (y, x), and the distances of those that touch, corners included."""
    padded = np.pad(skeleton, 1)
    number = np.full(padded.shape, -1)
    rows, columns = np.nonzero(padded)
    number[rows, columns] = np.arange(rows.size)
    starts, ends, weights = [], [], []
    for down, right in _HALF_NEIGHBOURS:
        beside = number[rows + down, columns + right]
        touching = beside >= 0
        starts.append(np.flatnonzero(touching))
        ends.append(beside[touching])
        weights.append(np.full(int(touching.sum()), np.hypot(down, right)))
    edges = (np.concatenate(weights), (np.concatenate(starts), np.concatenate(ends)))
    graph = csr_array(coo_array(edges, shape=(rows.size, rows.size)))
    return np.stack([rows - 1, columns - 1], axis=1), graph


def longest_path(skeleton: np.ndarray) -> Path | None:
    """Return the longest of the shortest ways between two pixels of a skeleton (y, x); None below two pixels.

    From any pixel to the farthest one, and from there to the farthest: in a tree this is the longest way.
    """
    pixels, graph = skeleton_graph(skeleton)
    if len(pixels) < 2:
        return None
    first = _farthest(dijkstra(graph, directed=False, indices=0))
    distances, before = dijkstra(graph, directed=False, indices=first, return_predecessors=True)
    way = [_farthest(distances)]
    while way[-1] != first:
        way.append(int(before[way[-1]]))
    beside = dijkstra(graph, directed=False, indices=way, min_only=True)
    return Path(pixels[way], float(beside[np.isfinite(beside)].max()))


def _farthest(distances: np.ndarray) -> int:
    return int(np.argmax(np.where(np.isfinite(distances), distances, -1.0)))


def extend_to_outline(path: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Lengthen a path (n, 2) in pixels at both ends, straight on, to where the mask ends.

    ``depth`` (y, x) is the distance of the pixels of the mask from what is outside, 0 there. A skeleton stops about
    half a width before the end, and its last pixels may turn into a corner: they are cut off first.
    """
    line = np.asarray(path, np.float64)
    for _ in range(2):
        line = _extend_start(line, depth)[::-1]
    return line


def _extend_start(line: np.ndarray, depth: np.ndarray) -> np.ndarray:
    radius = float(depth[tuple(line[0].astype(int))])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    cut = int(np.searchsorted(along, HOOK * radius))
    if len(line) - cut < 2:
        return line
    base = int(np.searchsorted(along, along[cut] + max(TANGENT * radius, 3.0)))
    direction = line[cut] - line[min(base, len(line) - 1)]
    direction = direction / max(float(np.hypot(*direction)), 1e-12)
    steps = np.arange(1, int(4 * radius) + 3)[:, None]
    ahead = line[cut] + steps * direction
    nearest = np.rint(ahead).astype(int)
    inside = np.all((nearest >= 0) & (nearest < depth.shape), axis=1)
    inside[inside] = depth[tuple(nearest[inside].T)] > 0
    reach = int(np.argmin(inside)) if not inside.all() else len(inside)
    return np.concatenate([ahead[:reach][::-1], line[cut:]])

"""The curve on which the points of a frame lie, and where along it they lie. Points are (n, 3) in µm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import splev, splprep
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

FEWEST = 5  # points of a curve
SCATTER_UM = 2.0  # of neurons about the middle of the cord
STEP_UM = 2.0  # between two nodes of a curve


@dataclass(frozen=True)
class Rows:
    """The points of all frames in order along the body, (t, point): NaN and -1 after the last of a frame.

    ``places`` along the curve in µm, ascending; ``numbers`` within the frame.
    """

    places: np.ndarray
    numbers: np.ndarray

    def part(self, frames: np.ndarray) -> Rows:
        """Return these frames."""
        return Rows(self.places[frames], self.numbers[frames])

    def from_the_other_end(self) -> Rows:
        """Return the rows with every frame turned round."""
        column = np.isfinite(self.places).sum(axis=1)[:, None] - 1 - np.arange(self.places.shape[1])
        there, column = column >= 0, np.maximum(column, 0)
        places = np.where(there, -np.take_along_axis(self.places, column, axis=1), np.nan)
        return Rows(places, np.where(there, np.take_along_axis(self.numbers, column, axis=1), -1))


def turning(curve: np.ndarray) -> np.ndarray:
    """Return by how much (m,) a curve has turned since its beginning, in the plane of y and x, in radians."""
    along = np.gradient(curve, axis=0)
    angle = np.unwrap(np.arctan2(along[:, 1], along[:, 2]))
    return np.asarray(angle - angle[0])


def in_order(
    points: Sequence[np.ndarray], curves: Sequence[np.ndarray | None], gate_um: float, *, beside_um: float = 0.0
) -> Rows:
    """Put the points of each frame that lie within ``gate_um`` of its curve in order along it.

    Places are those along a line ``beside_um`` beside the curve, on the left if y points down: a bend stretches one
    side of the body and compresses the other, so that places along its middle are those that bends do not change.
    """
    most = max((len(cloud) for cloud in points), default=0)
    places, numbers = np.full((len(points), most), np.nan), np.full((len(points), most), -1)
    for t, (cloud, curve) in enumerate(zip(points, curves, strict=True)):
        if curve is None or not len(cloud):
            continue
        along, off = project(cloud, curve)
        along = along + beside_um * np.interp(along, lengths_along(curve), turning(curve))
        order = np.argsort(along, kind="stable")
        order = order[off[order] <= gate_um]
        places[t, : len(order)], numbers[t, : len(order)] = along[order], order
    return Rows(places, numbers)


def longest_path(points: np.ndarray) -> np.ndarray:
    """Return the points (k,), k ≤ n, in order along the longest path of the minimum spanning tree.

    Of its two ends the one with the smaller coordinates (z, then y, then x) comes first: the order of the points is of
    no account.
    """
    distance = np.maximum(cdist(points, points), 1e-9)  # to csgraph 0 is no edge
    np.fill_diagonal(distance, 0)
    tree = minimum_spanning_tree(distance)
    first = int(np.argmax(dijkstra(tree, directed=False, indices=0)))
    lengths, before = dijkstra(tree, directed=False, indices=first, return_predecessors=True)
    path = [int(np.argmax(lengths))]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    return np.asarray(path if tuple(points[path[0]]) <= tuple(points[path[-1]]) else path[::-1])


def curve_through(points: np.ndarray) -> np.ndarray | None:
    """Return the nodes (m, 3) of a smooth curve through points in no order; None for too few of them.

    It follows the longest path of the minimum spanning tree.
    """
    return None if len(points) < FEWEST else curve_along(points[longest_path(points)])


def curve_along(row: np.ndarray) -> np.ndarray | None:
    """Return the nodes (m, 3), 2 µm apart, of a smoothing spline through points in order; None for too few of them.

    Points that are off by more than three times the scatter are left out once.
    """
    for _ in range(2):
        if len(row) < FEWEST:
            return None
        spline, places = splprep(row.T, s=len(row) * SCATTER_UM**2, k=3)
        off = np.sqrt(((np.stack(splev(places, spline), axis=1) - row) ** 2).sum(axis=1))
        if (off <= 3 * SCATTER_UM).all():
            break
        row = row[off <= 3 * SCATTER_UM]
    return resampled(np.stack(splev(np.linspace(0, 1, 400), spline), axis=1))


def resampled(nodes: np.ndarray) -> np.ndarray:
    """Return nodes that are ``STEP_UM`` apart along the polyline through ``nodes`` (m, 3)."""
    along = lengths_along(nodes)
    places = np.linspace(0, along[-1], max(2, round(along[-1] / STEP_UM) + 1))
    return np.stack([np.interp(places, along, axis) for axis in nodes.T], axis=1)


def lengths_along(nodes: np.ndarray) -> np.ndarray:
    """Return the length (m,) of a polyline from its first node."""
    return np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(nodes, axis=0) ** 2).sum(axis=1)))])


def project(points: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each point the place along the curve and the distance from it, in µm, (n,) each.

    Beyond its ends the curve goes on straight: places are below 0, or above its length.
    """
    along = lengths_along(nodes)
    _, nearest = KDTree(nodes).query(points)
    segment = np.clip(nearest[:, None] + np.array([-1, 0]), 0, len(nodes) - 2)  # before and after the nearest node
    start, step = nodes[segment], nodes[segment + 1] - nodes[segment]
    share = ((points[:, None] - start) * step).sum(axis=-1) / (step**2).sum(axis=-1)
    low = np.where(segment == 0, -np.inf, 0.0)
    high = np.where(segment == len(nodes) - 2, np.inf, 1.0)
    share = np.clip(share, low, high)
    off = np.sqrt(((start + share[..., None] * step - points[:, None]) ** 2).sum(axis=-1))
    better = off.argmin(axis=1)
    rows = np.arange(len(points))
    chosen = segment[rows, better]
    places = along[chosen] + share[rows, better] * (along[chosen + 1] - along[chosen])
    return places, off[rows, better]


def moved_onto(curves: Sequence[np.ndarray | None], points: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """Return curves of a plane (all z equal), moved sideways to where the points usually lie beside them.

    The way is learned from all frames, in tenths of the length, because the cord nears the middle at the ends of the
    body. For curves that all begin at the same end.
    """
    share, beside = [], []
    for curve, cloud in zip(curves, points, strict=True):
        if curve is not None and len(cloud):
            along, _ = project(cloud, curve)
            length = lengths_along(curve)
            nearest = KDTree(curve).query(cloud)[1]
            share.append(along / length[-1])
            beside.append(((cloud - curve[nearest]) * _normals(curve)[nearest]).sum(axis=1))
    if not share:
        return list(curves)
    places, ways = np.concatenate(share), np.concatenate(beside)
    tenth = np.clip((places * 10).astype(int), 0, 9)
    used = [number for number in range(10) if (tenth == number).any()]
    usual = [float(np.median(ways[tenth == number])) for number in used]
    middles = (np.asarray(used) + 0.5) / 10

    def moved(curve: np.ndarray) -> np.ndarray:
        along = lengths_along(curve)
        return resampled(curve + np.interp(along / along[-1], middles, usual)[:, None] * _normals(curve))

    return [None if curve is None else moved(curve) for curve in curves]


def _normals(curve: np.ndarray) -> np.ndarray:
    """Return unit vectors (m, 3) in the plane of y and x, a quarter turn from the direction of the curve."""
    along = np.gradient(curve, axis=0)
    across = np.stack([np.zeros(len(curve)), along[:, 2], -along[:, 1]], axis=1)
    return np.asarray(across / np.maximum(np.sqrt((across**2).sum(axis=1, keepdims=True)), 1e-9))

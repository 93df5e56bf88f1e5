"""Which frames are alike, and in which order they are reached from one another."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import numpy as np

_BLOCK = 512


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (n, m) of descriptors (n, k) and (m, k)."""
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * (first @ second.T)
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def most_typical(descriptors: np.ndarray, candidates: np.ndarray) -> int:
    """Return the candidate whose median distance to all candidates is the least: the medoid, robustly."""
    table = descriptors[candidates]
    typical: list[float] = []
    for start in range(0, len(table), _BLOCK):
        typical += np.median(distances(table[start : start + _BLOCK], table), axis=1).tolist()
    return int(candidates[int(np.argmin(typical))])


def similar_frames(descriptors: np.ndarray, frames: np.ndarray, n_neighbors: int) -> dict[tuple[int, int], float]:
    """Return pairs of frames (lower, higher) and their distance: each with its most similar ones and the next in time.

    ``frames`` are those to be linked, in the order of time. By the steps in time every frame can be reached from every
    other.
    """
    pairs: dict[tuple[int, int], float] = {}
    table = descriptors[frames]

    def add(one: int, other: int, distance: float) -> None:
        low, high = sorted((int(frames[one]), int(frames[other])))
        pairs[low, high] = float(distance)

    for start in range(0, len(table), _BLOCK):
        near = distances(table[start : start + _BLOCK], table)
        near[np.arange(len(near)), start + np.arange(len(near))] = np.inf
        for row, numbers in enumerate(np.argsort(near, axis=1, kind="stable")[:, : min(n_neighbors, len(table) - 1)]):
            for number in numbers:
                add(start + row, int(number), near[row, number])
    for one in range(len(table) - 1):
        add(one, one + 1, float(np.linalg.norm(table[one] - table[one + 1])))
    return pairs


def reached(
    pairs: dict[tuple[int, int], float], sources: Iterable[int], neighbours: Sequence[Sequence[int]]
) -> list[tuple[int, int]]:
    """Return frames with the one from which each is reached, in the order of a minimum spanning tree from sources."""
    done = set(sources)
    heap: list[tuple[float, int, int]] = []

    def open_way(frame: int) -> None:
        for other in neighbours[frame]:
            if other not in done:
                heapq.heappush(heap, (pairs[min(frame, other), max(frame, other)], other, frame))

    for frame in sorted(done):
        open_way(frame)
    order = []
    while heap:
        _, frame, parent = heapq.heappop(heap)
        if frame not in done:
            done.add(frame)
            order.append((frame, parent))
            open_way(frame)
    return order

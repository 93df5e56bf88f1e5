"""What gives away a point that carries the wrong name: where its neighbours expect it, how it jumps, what else is near.

Positions are (t, neuron, 3) in µm, NaN where there is none; t and neuron may be 0.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.ndimage import median_filter
from scipy.spatial import KDTree

NEIGHBOURS = 12  # as many as lie around a nucleus of the head
MOST_FRAMES = 500  # enough to learn how neighbours move together
DETECTION_ERROR_UM = 0.5  # of a position: what is nearer than this to its expected place cannot be told from it
ROUNDS = 4
OUTLYING = 0.4  # of the distance to the nearest neuron: beyond half of it another one is nearer
REWEIGHTINGS = 5


def around(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the neighbours (neuron, k) of each neuron, nearest first, and its spacing (neuron,) in µm.

    By the median distance over at most 200 frames in which both are there; pairs that never meet are far apart. The
    spacing is the distance to the nearest one, at least 1 µm; infinite for a neuron that is alone.
    """
    frames, count = position.shape[:2]
    k = min(NEIGHBOURS, count - 1)
    if k < 1 or frames == 0:
        return np.zeros((count, 0), int), np.full(count, np.inf)
    chosen = np.unique(np.linspace(0, frames - 1, 200).astype(int))
    distance = np.empty((count, count))
    for neuron in range(count):
        apart = np.sqrt(((position[chosen] - position[chosen, neuron, None]) ** 2).sum(axis=-1))
        distance[neuron] = nan_median(apart, axis=0)
    np.fill_diagonal(distance, np.inf)
    distance[np.isnan(distance)] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return order, np.maximum(distance[np.arange(count), order[:, 0]], 1.0)


def nan_median(values: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Return the median of what is not NaN; NaN where all is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis))


def expected_places(
    position: np.ndarray, trusted: np.ndarray, near: np.ndarray, spacing_um: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the neighbours ``near`` (neuron, k) expect each neuron, (t, neuron, 3), and how surely (neuron,).

    A neuron's place is a weighted mean of its neighbours' places, with weights of sum 1 that are learned from all
    frames: exact where a neighbourhood moves, turns, stretches and shears as one. Neighbours that are missing, or far
    from where they are expected themselves, count at their expected place; those ``trusted`` (t, neuron) always count
    where they are. The sureness is the usual (median) distance to the place in µm.
    """
    known = np.isfinite(position).all(axis=-1)
    frames, count = known.shape
    if near.shape[1] == 0 or frames == 0:
        return np.full(position.shape, np.nan), np.full(count, np.nan)
    used = _completed(position, known, near)
    expected = used
    reliable = known.copy()
    for _ in range(ROUNDS):
        expected = _learned_places(used, reliable, near)
        apart = np.where(known & ~trusted, _distance(position, expected), np.nan)
        usual = nan_median(np.where(known, _distance(position, expected), np.nan), axis=0)
        limit = np.maximum(OUTLYING * spacing_um, 3 * np.nan_to_num(usual, nan=0.0))
        excess = np.nan_to_num(apart / limit, nan=0.0)
        # The worst of a neighbourhood goes first: it makes its neighbours look wrong.
        worst = excess >= np.maximum(excess[:, near].max(axis=-1), 1.0)
        reliable &= ~worst
        used = np.where(reliable[..., None], position, expected)
    return expected, usual


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(((first - second) ** 2).sum(axis=-1)))


def _completed(position: np.ndarray, known: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Put missing neurons at their usual offset from the neighbours that are there; 0 in frames without any."""
    filled = position.copy()
    usual = nan_median(position - nan_median(position, axis=1)[:, None], axis=0)  # (neuron, 3), about the middle
    usual = np.nan_to_num(usual, nan=0.0)
    for neuron, others in enumerate(near):
        missing = np.flatnonzero(~known[:, neuron])
        if len(missing):
            middle = nan_median(position[missing][:, others] - usual[others], axis=1)
            filled[missing, neuron] = middle + usual[neuron]
    lost = np.isnan(filled)
    everywhere = nan_median(position, axis=1)[:, None] + usual
    return np.nan_to_num(np.where(lost, everywhere, filled), nan=0.0)


def _learned_places(used: np.ndarray, reliable: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the expected place (t, neuron, 3) from weights fitted to reliable points.

    Ridge regression, reweighted by the function of Geman & McClure (Bull. Int. Stat. Inst. 52:5, 1987): a neuron may be
    wrong for a third of the frames without its weights learning that.
    """
    expected = np.empty_like(used)
    for neuron, others in enumerate(near):
        middle = used[:, others].mean(axis=1)
        shape = used[:, others] - middle[:, None]  # (t, k, 3)
        target = used[:, neuron] - middle
        rows = np.flatnonzero(reliable[:, neuron])
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST_FRAMES).astype(int))] if len(rows) else rows
        weights = np.zeros(len(others))
        importance = np.ones(len(rows))
        for _ in range(REWEIGHTINGS):
            if not len(rows):
                break
            weighted = shape[rows] * importance[:, None, None]
            gram = np.einsum("tia,tja->ij", weighted, shape[rows], optimize=True)
            ridge = 3 * importance.sum() * DETECTION_ERROR_UM**2
            right = np.einsum("tia,ta->i", weighted, target[rows], optimize=True)
            weights = np.linalg.solve(gram + ridge * np.eye(len(others)), right)
            apart = _distance(np.einsum("k,tka->ta", weights, shape[rows]), target[rows])
            scale = max(float(np.median(apart)), DETECTION_ERROR_UM)
            importance = 1 / (1 + (apart / scale) ** 2) ** 2
        place = middle + np.einsum("k,tka->ta", weights, shape, optimize=True)
        # What neighbours cannot say (fewer than four, or all in a plane) is the neuron's usual offset from it.
        offset = np.median(used[rows, neuron] - place[rows], axis=0) if len(rows) else 0.0
        expected[:, neuron] = place + offset
    return expected


def nearest(place: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance to the nearest of ``points`` (m, 3) and its number, for each ``place`` (n, 3)."""
    distance, number = KDTree(points).query(place)
    return np.asarray(distance), np.asarray(number)


def nearest_others(place: np.ndarray, frames_points: list[np.ndarray], own: np.ndarray) -> np.ndarray:
    """Return the distance (t, neuron) from ``place`` to the nearest detection that is not the neuron's ``own``.

    ``frames_points`` holds the detections (n, 3) of each frame, ``own`` (t, neuron) the number within them, -1 for
    none. Infinite where there is no other.
    """
    distance = np.full(own.shape, np.inf)
    for t, points in enumerate(frames_points):
        usable = np.flatnonzero(np.isfinite(place[t]).all(axis=-1))
        if not len(points) or not len(usable):
            continue
        found, number = KDTree(points).query(place[t, usable], k=2)
        taken = number[:, 0] == own[t, usable]
        distance[t, usable] = np.where(taken, found[:, 1], found[:, 0])
    return distance


def jumps_um(deviation: np.ndarray) -> np.ndarray:
    """Return by how much a point moved other than expected, (t, neuron), since its last and until its next frame.

    ``deviation`` (t, neuron, 3) is the place less the expected one. The larger of the two; NaN where neither is known.
    """
    frames, count = deviation.shape[:2]
    step = np.full((frames + 1, count), np.nan)
    known = np.isfinite(deviation).all(axis=-1)
    for neuron in range(count):
        seen = np.flatnonzero(known[:, neuron])
        moved = np.sqrt((np.diff(deviation[seen, neuron], axis=0) ** 2).sum(axis=-1))
        step[seen[1:], neuron] = moved
    after = np.full((frames, count), np.nan)
    for neuron in range(count):
        seen = np.flatnonzero(known[:, neuron])
        after[seen[:-1], neuron] = step[seen[1:], neuron]
    return np.asarray(np.fmax(step[:-1], after))


def log_jumps(values: np.ndarray, window: int) -> np.ndarray:
    """Return how far log ``values`` (t, neuron) lie from their running median, in units of the usual spread.

    The spread is that of all neurons together: 1.4826 times the median distance, and at least 0.05. NaN stays NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(values > 0, np.log(values), np.nan)
    usual = nan_median(logs, axis=0)
    filled = np.where(np.isnan(logs), np.nan_to_num(usual, nan=0.0), logs)
    apart = np.abs(logs - median_filter(filled, size=(window, 1), mode="nearest")) if logs.size else logs
    spread = nan_median(apart)
    return np.asarray(apart / max(1.4826 * float(np.nan_to_num(spread, nan=0.0)), 0.05))


def run_lengths(flags: np.ndarray) -> np.ndarray:
    """Return for each True of ``flags`` (t, neuron) how many frames its run lasts, 0 elsewhere."""
    lengths = np.zeros(flags.shape, int)
    for neuron in range(flags.shape[1]):
        for start, end in runs(flags[:, neuron]):
            lengths[start:end, neuron] = end - start
    return lengths


def runs(flags: np.ndarray, *, bridged: int = 0) -> list[tuple[int, int]]:
    """Return the first and one past the last place of each run of True; gaps of ``bridged`` or fewer are no end."""
    places = np.flatnonzero(flags)
    if not len(places):
        return []
    cuts = np.flatnonzero(np.diff(places) > bridged + 1)
    starts, ends = places[np.concatenate([[0], cuts + 1])], places[np.concatenate([cuts, [len(places) - 1]])]
    return list(zip(starts.tolist(), (ends + 1).tolist(), strict=True))


def exchanges(position: np.ndarray, expected: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much nearer a neuron and a neighbour were to their expected places if they exchanged their points.

    Gain in µm (t, neuron) of the best neighbour, and that neighbour (t, neuron). Negative where no exchange helps; NaN
    and -1 where the neuron or all its neighbours have no point.
    """
    own = _distance(position, expected)
    gain, partner = np.full(own.shape, np.nan), np.full(own.shape, -1)
    for neuron, others in enumerate(near):
        now = own[:, neuron, None] + own[:, others]
        then = _distance(position[:, others], expected[:, neuron, None])
        then += _distance(position[:, neuron, None], expected[:, others])
        better = np.nan_to_num(now - then, nan=-np.inf)
        if not better.size:
            continue
        best = better.argmax(axis=1)
        gain[:, neuron] = better[np.arange(len(best)), best]
        partner[:, neuron] = others[best]
    partner[np.isneginf(gain)] = -1
    gain[np.isneginf(gain)] = np.nan
    return gain, partner

"""Arithmetic of the track scores, on arrays: positions (t, neuron, 3) in µm, NaN where there is no point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

# Weights of the Cell Tracking Challenge (Matula et al., PLoS ONE 10:e0144959, 2015): a point that is missed, one too
# many, a link that is missed, one too many. Points of tracks neither merge nor divide.
MISSED_POINT, FALSE_POINT, MISSED_LINK, FALSE_LINK = 10.0, 1.0, 1.5, 1.0


@dataclass(frozen=True)
class Matches:
    """Which points of predicted and true tracks are the same.

    ``there`` (t, pred) and ``true`` (t, truth) tell where there are points. ``pred_of`` (t, truth) and ``truth_of``
    (t, pred) are the partner in a one-to-one matching of each frame, -1 for none. ``assigned`` (truth,) is the
    predicted neuron that stands for a true one over the whole recording, -1 for none; ``right`` (t, truth) where that
    one is within the gate of the true point.
    """

    there: np.ndarray
    true: np.ndarray
    pred_of: np.ndarray
    truth_of: np.ndarray
    assigned: np.ndarray
    right: np.ndarray


def match(pred_um: np.ndarray, truth_um: np.ndarray, gate_um: float) -> Matches:
    """Match ``pred_um`` (t, pred, 3) to ``truth_um`` (t, truth, 3)."""
    there, true = np.isfinite(pred_um).all(axis=-1), np.isfinite(truth_um).all(axis=-1)
    near = np.zeros((there.shape[1], true.shape[1]), int)  # frames in which the two are within the gate
    pred_of, truth_of = np.full(true.shape, -1), np.full(there.shape, -1)
    for t in range(len(true)):
        here, names = np.flatnonzero(there[t]), np.flatnonzero(true[t])
        distance = cdist(pred_um[t, here], truth_um[t, names])
        rows, columns = np.nonzero(distance <= gate_um)
        near[here[rows], names[columns]] += 1
        rows, columns = nearest_pairs(distance, gate_um)
        pred_of[t, names[columns]] = here[rows]
        truth_of[t, here[rows]] = names[columns]
    assigned = np.full(true.shape[1], -1)
    rows, columns = linear_sum_assignment(near, maximize=True)
    meet = near[rows, columns] > 0
    assigned[columns[meet]] = rows[meet]
    right = np.zeros(true.shape, bool)
    followed = np.flatnonzero(assigned >= 0)
    offset = pred_um[:, assigned[followed]] - truth_um[:, followed]
    right[:, followed] = np.sqrt((offset**2).sum(axis=-1)) <= gate_um  # NaN is not
    return Matches(there, true, pred_of, truth_of, assigned, right)


def nearest_pairs(distance: np.ndarray, gate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of as many pairs within ``gate`` as there can be, of these at the least distance."""
    close = distance <= gate
    # A pair that has no other candidate on either side needs no assignment; most are of this kind.
    alone = close & (close.sum(axis=1, keepdims=True) == 1) & (close.sum(axis=0, keepdims=True) == 1)
    rows, columns = np.nonzero(alone)
    contested = close & ~alone
    some_rows, some_columns = np.flatnonzero(contested.any(axis=1)), np.flatnonzero(contested.any(axis=0))
    if not len(some_rows):
        return rows, columns
    part = np.ix_(some_rows, some_columns)
    beyond = (1 + min(len(some_rows), len(some_columns))) * gate  # to leave out a pair costs more than any distances
    first, second = linear_sum_assignment(np.where(contested[part], distance[part], beyond))
    kept = contested[part][first, second]
    return np.concatenate([rows, some_rows[first[kept]]]), np.concatenate([columns, some_columns[second[kept]]])


def hota(matches: Matches) -> tuple[float, float, float]:
    """Return HOTA, DetA and AssA; NaN where there is no point at all."""
    frame, pred = np.nonzero(matches.truth_of >= 0)
    hits = len(frame)
    union = int(matches.there.sum() + matches.true.sum()) - hits
    if union == 0:
        return float("nan"), float("nan"), float("nan")
    shared = np.zeros((matches.there.shape[1], matches.true.shape[1]))
    np.add.at(shared, (pred, matches.truth_of[frame, pred]), 1)
    either = matches.there.sum(axis=0)[:, None] + matches.true.sum(axis=0)[None, :] - shared
    association = float((shared**2 / np.maximum(either, 1)).sum()) / max(hits, 1)
    detection = hits / union
    return float(np.sqrt(detection * association)), detection, association


def idf1(matches: Matches) -> float:
    """Return IDF1; NaN where there is no point at all."""
    points = int(matches.there.sum() + matches.true.sum())
    return 2 * int(matches.right.sum()) / points if points else float("nan")


def challenge_scores(matches: Matches) -> tuple[float, float, float]:
    """Return TRA, DET and LNK; NaN where the truth has no point, or no link."""
    after, true_after = _next_frame(matches.there), _next_frame(matches.true)
    linked, true_links = _same_links(matches, after, true_after), int((true_after >= 0).sum())
    points = int(matches.true.sum())
    missed, false = int((matches.true & (matches.pred_of < 0)).sum()), int((matches.truth_of < 0)[matches.there].sum())
    frame, pred = np.nonzero((after >= 0) & (matches.truth_of >= 0))
    both_known = int((matches.truth_of[after[frame, pred], pred] >= 0).sum())
    point_cost = MISSED_POINT * missed + FALSE_POINT * false
    link_cost = MISSED_LINK * (true_links - linked) + FALSE_LINK * (both_known - linked)
    all_points, all_links = MISSED_POINT * points, MISSED_LINK * true_links

    def score(cost: float, worst: float) -> float:
        return 1 - min(cost, worst) / worst if worst else float("nan")

    return (
        score(point_cost + link_cost, all_points + all_links),
        score(point_cost, all_points),
        score(link_cost, all_links),
    )


def _next_frame(there: np.ndarray) -> np.ndarray:
    """Return for each point (t, neuron) the frame of the neuron's next point, -1 where there is none."""
    frames = len(there)
    first = np.where(there, np.arange(frames)[:, None], frames)
    upcoming = np.full_like(first, frames)
    upcoming[:-1] = np.minimum.accumulate(first[::-1], axis=0)[::-1][1:]
    return np.where(there & (upcoming < frames), upcoming, -1)


def _same_links(matches: Matches, after: np.ndarray, true_after: np.ndarray) -> int:
    """Return how many links of the truth are links of the prediction too."""
    frame, truth = np.nonzero((true_after >= 0) & (matches.pred_of >= 0))
    until, pred = true_after[frame, truth], matches.pred_of[frame, truth]
    return int(((matches.pred_of[until, truth] == pred) & (after[frame, pred] == until)).sum())


def edits_needed(matches: Matches, wanted: float) -> int:
    """Return how many edits bring the part of right points to ``wanted``, the most useful ones first.

    One edit repairs one run: successive frames in which the same other neuron, or none, stands where one should be.
    Two neurons that stand for each other at the same time are one edit.
    """
    excess = int((matches.true & ~matches.right).sum()) - (1 - wanted) * int(matches.true.sum())
    repaired = np.cumsum(sorted(_edit_sizes(matches), reverse=True))
    return int(np.searchsorted(repaired, excess - 1e-9)) + 1 if excess > 1e-9 else 0


def _edit_sizes(matches: Matches) -> list[int]:
    """Return how many wrong points each edit would repair."""
    runs: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
    for truth, other, start, end, size in _wrong_runs(matches):
        own = int(matches.assigned[truth])
        exchanged = own >= 0 and other >= 0 and bool((matches.assigned == other).any())
        key = (min(own, other), max(own, other), -1) if exchanged else (-1, truth, other)
        runs.setdefault(key, []).append((start, end, size))
    sizes: list[int] = []
    for key, members in runs.items():
        last = -1
        for start, end, size in sorted(members):
            if key[0] >= 0 and start <= last:
                sizes[-1] += size
                last = max(last, end)
            else:
                sizes.append(size)
                last = end
    return sizes


def _wrong_runs(matches: Matches) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the true neuron, the predicted one in its place (-1: none), first and last frame, and wrong points."""
    for truth in range(matches.true.shape[1]):
        frames = np.flatnonzero(matches.true[:, truth])
        wrong = ~matches.right[frames, truth]
        other = np.where(wrong, matches.pred_of[frames, truth], -2)
        cuts = np.flatnonzero(np.diff(other)) + 1
        for part in np.split(np.arange(len(frames)), cuts):
            if len(part) and wrong[part[0]]:
                yield truth, int(other[part[0]]), int(frames[part[0]]), int(frames[part[-1]]), len(part)

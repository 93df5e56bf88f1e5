"""Where the neurons of a cord should be by the frames before and after, and what that says about points.

Chains are (t, neuron, 3) in µm: the places of all neurons of a row, NaN in frames in which they are not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from niddl_xr.tracking._kernels.body_curve import curve_along, in_order
from niddl_xr.tracking._kernels.body_order import Row, aligned

UNEXPECTED = 0.02  # part of the neurons that are anywhere but where they should be
LEAST_SPREAD_UM = 3.0
FEWEST_KNOWN = 0.5  # of the row: from fewer neurons the others are not filled in


@dataclass(frozen=True)
class Found:
    """One frame: ``numbers`` (neuron,) of the points within the frame, -1 for none, and their ``probability``."""

    numbers: np.ndarray
    probability: np.ndarray


def chain_of(points: Sequence[np.ndarray], numbers: np.ndarray, row: Row) -> np.ndarray:
    """Return the chain (t, neuron, 3) through the points of ``numbers`` (t, neuron), -1 for none.

    Neurons without a point are put between their neighbours by the gaps of ``row``, and beyond the outermost
    ones straight on. Frames in which fewer than half are known stay NaN.
    """
    chain = np.full((*numbers.shape, 3), np.nan)
    for t, own in enumerate(numbers):
        known = np.flatnonzero(own >= 0)
        if len(known) >= max(2, FEWEST_KNOWN * len(row)):
            chain[t] = _filled_in(row.places, row.places[known], points[t][own[known]])
    return chain


def _filled_in(row: np.ndarray, known: np.ndarray, places: np.ndarray) -> np.ndarray:
    filled = np.stack([np.interp(row, known, axis) for axis in places.T], axis=1)
    for outside, end, inner in ((row < known[0], 0, 1), (row > known[-1], -1, -2)):
        step = (places[end] - places[inner]) / max(abs(known[end] - known[inner]), 1e-9)
        filled[outside] = places[end] + np.abs(row[outside] - known[end])[:, None] * step
    return filled


def between(chain: np.ndarray) -> np.ndarray:
    """Return the chain that the frames beside each one predict: their mean, or the only one that is known."""
    before, after = np.full_like(chain, np.nan), np.full_like(chain, np.nan)
    before[1:], after[:-1] = chain[:-1], chain[1:]
    return np.where(np.isnan(before), after, np.where(np.isnan(after), before, (before + after) / 2))


def spread_um(chain: np.ndarray, predicted: np.ndarray) -> float:
    """Return how far from predicted places neurons are: the median distance, at least 3 µm; infinite if unknown."""
    apart = np.sqrt(((chain - predicted) ** 2).sum(axis=-1))
    apart = apart[np.isfinite(apart)]
    return max(float(np.median(apart)), LEAST_SPREAD_UM) if len(apart) else float("inf")


def evidence(points: np.ndarray, predicted: np.ndarray, spread: float) -> np.ndarray:
    """Return the log probability (t, neuron, point) of ``points`` (t, point, 3) by ``predicted`` (t, neuron, 3).

    A Gaussian of ``spread`` µm along each axis, and a small part of neurons that are anywhere. Where nothing is
    predicted, or the spread is infinite, it says the same of all.
    """
    usual = np.log(UNEXPECTED + (1 - UNEXPECTED) * np.exp(-1.0))
    shape = (*predicted.shape[:2], points.shape[1])
    if not np.isfinite(spread):
        return np.full(shape, usual)
    square = ((points[:, None] - predicted[:, :, None]) ** 2).sum(axis=-1)
    found = np.log(UNEXPECTED + (1 - UNEXPECTED) * np.exp(-0.5 * square / spread**2))
    return np.asarray(np.where(np.isnan(square), usual, found))


def followed(
    frames: Iterable[int],
    step: int,
    points: Sequence[np.ndarray],
    chain: np.ndarray,
    row: Row,
    *,
    spread: float,
    gate_um: float,
    beside_um: float,
    least: float,
) -> dict[int, Found]:
    """Follow the neurons through ``frames``, in time (``step`` 1) or against it (-1), from the frames next to them.

    The curve of a frame is drawn along the neurons' predicted places, in their known order, not along the points.
    """
    chain, found = chain.copy(), {}
    for t in frames:
        predicted = _carried_on(chain, t, step)
        if predicted is None or not len(points[t]):
            continue
        best = None
        for error in (2 * spread, spread):  # first with the error of a prediction, then with that of what was found
            best = _found(points[t], predicted, row, error, gate_um, beside_um, least) or best
            if best is None:
                break
            drawn = chain_of([points[t]], best.numbers[None], row)[0]
            predicted = np.where(np.isnan(drawn), predicted, drawn)
        if best is not None and (best.numbers >= 0).mean() >= FEWEST_KNOWN:
            chain[t], found[t] = predicted, best
    return found


def _carried_on(chain: np.ndarray, t: int, step: int) -> np.ndarray | None:
    """Return the places at frame ``t`` if the neurons went on as in the two frames before; None where not known."""
    last, earlier = t - step, t - 2 * step
    if not 0 <= last < len(chain) or np.isnan(chain[last]).all():
        return None
    if not 0 <= earlier < len(chain) or np.isnan(chain[earlier]).all():
        return np.asarray(chain[last])
    return np.asarray(2 * chain[last] - chain[earlier])


def _found(
    points: np.ndarray,
    predicted: np.ndarray,
    row: Row,
    spread: float,
    gate_um: float,
    beside_um: float,
    least: float,
) -> Found | None:
    curve = curve_along(predicted)
    if curve is None:
        return None
    rows = in_order([points], [curve], gate_um + 2 * spread, beside_um=beside_um)
    if not np.isfinite(rows.places).any():
        return None
    table = evidence(points[rows.numbers], predicted[None], spread)
    one = aligned(rows.places, row, least=least, evidence=lambda part: table[part])
    numbers = np.where(one.chosen[0] >= 0, rows.numbers[0, one.chosen[0]], -1)
    return Found(numbers, one.probability[0])

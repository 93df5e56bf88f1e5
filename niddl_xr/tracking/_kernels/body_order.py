"""Which point of a row is which neuron: probabilities from the gaps between them.

A row of points at places along the body is aligned with a row of neurons, in order; neurons may be missed, points may
be false. This is the pair hidden Markov model of sequence alignment (Durbin, Eddy, Krogh & Mitchison, Biological
Sequence Analysis, 1998, ch. 4), in which what is emitted is the gap between two successive matches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

MISSED = 0.1  # probability that a neuron is not detected, before it is learned
LEAST_MISSED, MOST_MISSED = 0.02, 0.9
FALSE_PER_UM = 0.003  # false points per µm of body: three in a worm of 1 mm
ERROR_UM = 1.5  # of a gap: two detections, and the way that the cord winds
STRAIN = 0.15  # of a gap: the ventral side is compressed and stretched by 20 % in the bends of a crawling worm
REST_STRAIN = 0.06  # what is left of it along the middle of the body
LONGEST_STEP = 5  # neurons and points together by which one match may be beyond the last: three in between
FRAMES_AT_ONCE = 128  # bounds the memory
HEAP_UM = 3.0  # unmatched points within this distance of a place, in many frames, are a neuron


@dataclass(frozen=True)
class Row:
    """The neurons of a row: ``places`` (neuron,) in µm, ascending, and the probability (neuron,) that one is missed.

    ``strain``: the part of a gap by which it varies from frame to frame.
    """

    places: np.ndarray
    missed: np.ndarray
    strain: float = STRAIN

    def __len__(self) -> int:
        return len(self.places)

    def without(self, neuron: int) -> Row:
        """Return the row without one of its neurons."""
        return replace(self, places=np.delete(self.places, neuron), missed=np.delete(self.missed, neuron))


def first_row(places: np.ndarray, strain: float = STRAIN) -> Row:
    """Return a row of neurons at these places (neuron,), before anything is learned."""
    return Row(places, np.full(len(places), MISSED), strain)


Evidence = Callable[[slice], np.ndarray]


@dataclass(frozen=True)
class Aligned:
    """Which point is which neuron: ``chosen`` (t, neuron), -1 for none, with its ``probability`` (t, neuron), else 0.

    ``likelihood`` (t,) is the logarithm of that of the whole frame, 0 in frames without points.
    """

    chosen: np.ndarray
    probability: np.ndarray
    likelihood: np.ndarray


def aligned(places: np.ndarray, row: Row, *, least: float, evidence: Evidence | None = None) -> Aligned:
    """Assign the points of each frame to neurons: the most expected right pairs, none less probable than ``least``.

    ``places`` (t, point) in µm ascend within a frame, NaN after the last.
    ``evidence`` gives, for a slice of the frames, a log probability (t, neuron, point) that comes in beside the gaps.
    """
    shape = (len(places), len(row))
    chosen, probability, likelihood = np.full(shape, -1), np.zeros(shape), np.zeros(len(places))
    for start in range(0, len(places) if places.size and len(row) else 0, FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        table, likelihood[part] = posteriors(places[part], row, None if evidence is None else evidence(part))
        for t, pairs in enumerate(table, start):
            neuron, point = linear_sum_assignment(pairs, maximize=True)
            kept = pairs[neuron, point] >= least
            chosen[t, neuron[kept]], probability[t, neuron[kept]] = point[kept], pairs[neuron, point][kept]
    return Aligned(chosen, probability, likelihood)


def posteriors(places: np.ndarray, row: Row, evidence: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability (t, neuron, point) that a point is a neuron, and the log likelihood (t,) of each frame.

    Arguments as of :func:`aligned`, with ``evidence`` (t, neuron, point). A frame without points has probabilities 0
    and the log likelihood 0.
    """
    there = np.isfinite(places)
    shape = (len(places), len(row), places.shape[1])
    match = np.where(there[:, None], np.log1p(-row.missed)[:, None], -np.inf)
    match = match if evidence is None else match + evidence
    skip_point, point = np.log(FALSE_PER_UM), np.arange(shape[2])
    before = np.concatenate([[0.0], np.cumsum(np.log(row.missed))])  # of skipping the neurons before each one
    # What lies before the first match, and after the last, is skipped. The first match has no gap before it: the
    # density of points stands in for one.
    first = (before[:-1, None] + (point + 1) * skip_point) + match
    later = there.sum(axis=1)[:, None] - 1 - point
    last = (before[-1] - before[1:])[None, :, None] + (later * skip_point)[:, None]

    forward, backward = first.copy(), last.copy()
    steps = [(k, j) for k in range(1, LONGEST_STEP) for j in range(1, LONGEST_STEP + 1 - k) if j < shape[2]]
    gaps = {j: places[:, j:] - places[:, :-j] for j in range(1, LONGEST_STEP) if j < shape[2]}

    def gain(neuron: int, k: int, j: int) -> np.ndarray:
        wanted = row.places[neuron + k] - row.places[neuron]
        spread = float(np.hypot(ERROR_UM, row.strain * wanted))
        density: np.ndarray = -0.5 * ((gaps[j] - wanted) / spread) ** 2 - np.log(spread * np.sqrt(2 * np.pi))
        skipped = before[neuron + k] - before[neuron + 1] + (j - 1) * skip_point
        return np.asarray(np.nan_to_num(density, nan=-np.inf) + skipped)

    for i in range(shape[1]):
        for k, j in steps:
            if i >= k:
                arrived = forward[:, i - k, :-j] + gain(i - k, k, j) + match[:, i, j:]
                forward[:, i, j:] = np.logaddexp(forward[:, i, j:], arrived)
    for i in reversed(range(shape[1])):
        for k, j in steps:
            if i + k < shape[1]:
                left = backward[:, i + k, j:] + gain(i, k, j) + match[:, i + k, j:]
                backward[:, i, :-j] = np.logaddexp(backward[:, i, :-j], left)
    # Every alignment has one first match: the whole is the sum over these.
    whole = np.logaddexp.reduce((first + backward).reshape(len(places), -1), axis=1, initial=-np.inf)
    known = np.isfinite(whole)
    likelihood = np.where(known, whole, 0.0)
    probability = np.exp(np.where(known[:, None, None], forward + backward - likelihood[:, None, None], -np.inf))
    return probability, likelihood


def learned_row(places: np.ndarray, row: Row, chosen: np.ndarray, *, least_fraction: float) -> Row:
    """Return a better row: what each neuron's gaps usually are, and how often it is missed.

    Neurons matched in fewer than ``least_fraction`` of the frames go; where unmatched points gather in at least as many
    frames, a neuron is added.
    """
    frames = max(len(places), 1)
    support = (chosen >= 0).sum(axis=0) / frames
    kept = np.flatnonzero(support >= least_fraction)
    old = _with_usual_gaps(places, row.places[kept], chosen[:, kept])
    added = _gathered(_unmatched(places, old, chosen[:, kept]), least_fraction * frames)
    added = added[np.abs(added[:, None] - old[None]).min(axis=1, initial=np.inf) > ERROR_UM]
    everything = np.concatenate([old, added])
    missed = np.concatenate([1 - support[kept], np.full(len(added), MISSED)])
    order = np.argsort(everything, kind="stable")
    return Row(everything[order], np.clip(missed[order], LEAST_MISSED, MOST_MISSED), row.strain)


def _with_usual_gaps(places: np.ndarray, neurons: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    if len(neurons) < 2:
        return neurons
    at = np.where(chosen >= 0, np.take_along_axis(places, np.maximum(chosen, 0), axis=1), np.nan)
    gaps = np.diff(neurons)
    observed = np.diff(at, axis=1)
    for number, column in enumerate(observed.T):
        known = column[np.isfinite(column)]
        if len(known) >= 3:
            gaps[number] = max(float(np.median(known)), 1e-3)
    return np.asarray(neurons[0] + np.concatenate([[0.0], np.cumsum(gaps)]))


def _unmatched(places: np.ndarray, neurons: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return where, in the coordinate of the neurons, the points lie that are no neuron."""
    found = []
    for row, numbers in zip(places, chosen, strict=True):
        matched = np.flatnonzero(numbers >= 0)
        free = np.setdiff1d(np.flatnonzero(np.isfinite(row)), numbers[matched])
        if len(matched) > 1 and len(free):
            known = row[numbers[matched]]
            inside = np.interp(row[free], known, neurons[matched])
            shift = np.clip(row[free] - known[0], None, 0) + np.clip(row[free] - known[-1], 0, None)
            found.append(inside + shift)
    return np.sort(np.concatenate(found)) if found else np.zeros(0)


def _gathered(values: np.ndarray, least: float) -> np.ndarray:
    """Return the middles, ascending, of the heaps of sorted ``values`` that hold ``least`` or more of them."""
    middles = []
    while len(values):
        start = np.searchsorted(values, values - HEAP_UM)
        stop = np.searchsorted(values, values + HEAP_UM, side="right")
        best = int(np.argmax(stop - start))
        if stop[best] - start[best] < max(least, 1):
            break
        middles.append(float(np.median(values[start[best] : stop[best]])))
        values = np.concatenate([values[: start[best]], values[stop[best] :]])
    return np.sort(np.asarray(middles))

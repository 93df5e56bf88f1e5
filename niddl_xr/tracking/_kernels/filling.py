"""Where neurons are that no detection shows: the place to which their neighbours' motion has carried them.

A frame in which the neuron was seen is taken as source; the neurons seen in both frames say how the tissue around it
moved from there to here. Several sources, alike in posture and near in time, make one estimate.
"""

from __future__ import annotations

import numpy as np

SOURCES = 8  # frames that are most alike; more than that adds little to the mean of their errors
NEIGHBOURS = 12  # a local affine motion has 4 numbers an axis
_LIKENESS_BLOCK = 256  # frames compared with all others at once: bounds the memory
_BLOCK = 4096  # (missing neuron, source) pairs at once
_ROUNDS = 3  # of robust weighting
_SCALE_UM = 1.0  # error of a neighbour beyond which it loses weight: a few times that of a detection
_NOISE_UM2 = 0.25  # variance along an axis of the difference of two detections that are each 0.35 µm off
_LOOSEST = 1e-6  # that points in a plane have a solution
_STIFFEST = 0.5  # neighbours that a slope of zero counts as, where they move alike within that noise


def filled_positions(position: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return positions in which every neuron that was ever observed is somewhere in every frame.

    Parameters
    ----------
    position
        (t, neuron, 3) in µm, any order of the axes. What stands where nothing was observed is not looked at.
    observed
        (t, neuron), whether a detection stands at the position.

    Returns
    -------
    numpy.ndarray
        (t, neuron, 3) float64: observed positions as they are, others predicted. In frames in which no neighbour was
        observed a neuron moves evenly from its place before to its place after, and before the first and after the
        last such frame it stands still. Neurons never observed are NaN.

    Notes
    -----
    From each source the displacement at the neuron is that of an affine motion of its 12 nearest neighbours, with
    weights that fall off with distance and with misfit (Cauchy's): local regression as of Cleveland and Devlin, J. Am.
    Stat. Assoc. 83:596 (1988). Slopes are held back by a ridge, the less the more the neighbours' ways
    differ. Sources are the frame before and the frame after in which the neuron was observed and those whose points,
    centred, differ least. They are weighted by how little they differ, and by the distance of their prediction from
    the median of those that differ least, so that a wrong link does not pull.
    """
    seen = np.asarray(observed, dtype=bool) & np.isfinite(position).all(axis=-1)
    filled = np.where(seen[..., None], position, np.nan).astype(np.float64)
    ever = np.flatnonzero(seen.any(axis=0))
    if len(ever) == 0:
        return filled
    filled[:, ever] = _with_motion(filled[:, ever], seen[:, ever])
    return _interpolated(filled)


def _with_motion(position: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Fill what neighbours say anything about; the rest stays NaN."""
    filled, known = position.copy(), np.nan_to_num(position)
    for start in range(0, len(position), _LIKENESS_BLOCK):
        block = slice(start, start + _LIKENESS_BLOCK)
        frame, neuron = np.nonzero(~seen[block] & seen[block].any(axis=1, keepdims=True))
        if not len(frame):
            continue
        differences = _differences(known, seen, block)
        source, squared = _sources(differences, seen, frame, neuron, start)
        predicted = _predictions(known, seen, frame + start, neuron, source)
        filled[frame + start, neuron] = _combined(predicted, squared)
    return filled


def _differences(known: np.ndarray, seen: np.ndarray, block: slice) -> np.ndarray:
    """Return the mean squared distance (block, t), in µm², of neurons seen in both frames, each frame centred on them.

    Infinite where none is seen in both.
    """
    here, there = seen[block].astype(float), seen.astype(float)
    common = here @ there.T
    count = np.maximum(common, 1.0)
    total = np.zeros_like(common)
    for axis in range(3):
        values = known[..., axis] - known[..., axis][seen].mean()
        mine, theirs = values[block] * here, values * there
        total += ((mine**2) @ there.T + here @ (theirs**2).T - 2 * mine @ theirs.T) / count
        total -= ((mine @ there.T - here @ theirs.T) / count) ** 2
    # Few common points are always alike: two frames that share one neuron do not differ at all.
    total = np.maximum(total, 0.0) + 3 * _SCALE_UM**2 * NEIGHBOURS / count
    return np.asarray(np.where(common > 0, total, np.inf))


def _sources(
    differences: np.ndarray, seen: np.ndarray, frame: np.ndarray, neuron: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return for every missing neuron its source frames (missing, source), -1 for none, and how they differ."""
    sources = min(SOURCES, len(seen))
    chosen = np.full((len(frame), sources + 2), -1)
    frames = np.arange(len(seen))[:, None]
    before = np.maximum.accumulate(np.where(seen, frames, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, frames, len(seen))[::-1], axis=0)[::-1]
    chosen[:, 0] = before[frame + start, neuron]
    chosen[:, 1] = np.where(after[frame + start, neuron] < len(seen), after[frame + start, neuron], -1)
    for rows in _blocks(len(frame)):
        candidate = np.where(seen.T[neuron[rows]], differences[frame[rows]], np.inf)
        numbers = np.arange(candidate.shape[0])
        for column in (0, 1):  # not twice
            given = chosen[rows, column]
            candidate[numbers[given >= 0], given[given >= 0]] = np.inf
        best = np.argpartition(candidate, sources - 1, axis=1)[:, :sources]
        best = np.where(np.isfinite(np.take_along_axis(candidate, best, axis=1)), best, -1)
        chosen[rows, 2:] = best
    squared = np.where(chosen >= 0, differences[frame[:, None], chosen], np.inf)
    return np.where(np.isfinite(squared), chosen, -1), squared


def _predictions(
    known: np.ndarray, seen: np.ndarray, frame: np.ndarray, neuron: np.ndarray, source: np.ndarray
) -> np.ndarray:
    """Return what every source predicts, (missing, source, 3) in µm, NaN where there is no source."""
    predicted = np.full((*source.shape, 3), np.nan)
    row, column = np.nonzero(source >= 0)
    for part in _blocks(len(row)):
        now, who, then = frame[row[part]], neuron[row[part]], source[row[part], column[part]]
        origin = known[then, who]
        offset = known[then] - origin[:, None]
        squared = np.where(seen[now] & seen[then], (offset**2).sum(axis=-1), np.inf)
        count = min(NEIGHBOURS, squared.shape[1])
        near = np.argpartition(squared, count - 1, axis=1)[:, :count]
        squared = np.take_along_axis(squared, near, axis=1)
        offset = np.take_along_axis(offset, near[..., None], axis=1)
        moved = known[now[:, None], near] - known[then[:, None], near]
        predicted[row[part], column[part]] = origin + _displacement(offset, moved, squared)
    return predicted


def _displacement(offset: np.ndarray, moved: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Return the displacement (k, 3) at the origin from those (k, neighbour, 3) at ``offset``.

    ``squared`` (k, neighbour) is the squared distance, infinite for what is no neighbour.
    """
    there = np.isfinite(squared)
    # The farthest neighbour sets the width of the weights, so that sparse and dense tissue are treated alike.
    width = np.maximum(np.where(there, squared, 0.0).max(axis=1, keepdims=True), 1e-6)
    nearness = np.where(there, np.exp(-2 * np.where(there, squared, 0.0) / width), 0.0)
    offset = np.where(there[..., None], offset, 0.0)
    design = np.concatenate([np.ones((*offset.shape[:2], 1)), offset / np.sqrt(width)[..., None]], axis=-1)
    robust = _agreement(moved, there)
    for _ in range(_ROUNDS):
        weight = nearness * robust
        weighted = design * weight[..., None]
        ridge = np.diag([0.0, 1, 1, 1]) * _slope_ridge(design, moved, weight)[:, None, None]
        slopes = np.linalg.solve(weighted.swapaxes(1, 2) @ design + ridge, weighted.swapaxes(1, 2) @ moved)
        misfit = ((moved - design @ slopes) ** 2).sum(axis=-1)
        robust = 1 / (1 + misfit / (3 * _SCALE_UM**2))
    return np.asarray(slopes[:, 0])


def _agreement(moved: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the first weights (k, neighbour): a way is doubted that differs from the median far more than others."""
    ways = np.where(there[..., None], moved, np.nan)
    away = ((ways - np.nanmedian(ways, axis=1, keepdims=True)) ** 2).sum(axis=-1)
    usual = np.maximum(np.nanmedian(away, axis=1, keepdims=True), 3 * _SCALE_UM**2)
    return np.where(there, 1 / (1 + np.where(there, away, 0.0) / usual) ** 2, 0.0)


def _slope_ridge(design: np.ndarray, moved: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return (k,) how firmly slopes are held at zero: noise over the variance that slopes have, as far as seen."""
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    mean = np.einsum("kn,kni->ki", share, moved)
    spread = np.einsum("kn,kni->k", share, (moved - mean[:, None]) ** 2) / 3
    reach = np.einsum("kn,kni->k", share, design[..., 1:] ** 2) / 3
    return np.asarray(np.clip(_NOISE_UM2 * reach / np.maximum(spread - _NOISE_UM2, 1e-9), _LOOSEST, _STIFFEST))


def _combined(predicted: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Return the mean of predictions (missing, source, 3), weighted by likeness and by nearness to the likest."""
    there = np.isfinite(predicted[..., 0])
    trust = np.where(there, 1 / (1 + np.where(there, squared, 1.0)), 0.0)
    result = np.full((len(predicted), 3), np.nan)
    some = there.any(axis=1)
    best = trust[some] >= trust[some].max(axis=1, keepdims=True) / 2
    middle = np.nanmedian(np.where(best[..., None], predicted[some], np.nan), axis=1, keepdims=True)
    away = np.where(there[some], ((predicted[some] - middle) ** 2).sum(axis=-1), 0.0)
    weight = (trust[some] / (1 + away / (3 * _SCALE_UM**2)))[..., None]
    result[some] = (np.nan_to_num(predicted[some]) * weight).sum(axis=1) / weight.sum(axis=1)
    return result


def _interpolated(filled: np.ndarray) -> np.ndarray:
    """Fill what is left evenly between the frames before and after; the ends are held."""
    frames = np.arange(len(filled))
    for neuron in np.flatnonzero(np.isnan(filled[..., 0]).any(axis=0)):
        known = np.isfinite(filled[:, neuron, 0])
        if known.any():
            for axis in range(3):
                filled[:, neuron, axis] = np.interp(frames, frames[known], filled[known, neuron, axis])
    return filled


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]

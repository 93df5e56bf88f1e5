"""Traces with gaps: put in what the other neurons, or the frames beside the gap, say."""

from __future__ import annotations

import numpy as np

from niddl_xr.dynamics._kernels.chance import (
    STRICT_LEVEL,
    affordable_draws,
    chance_explained,
    leading_above,
    upper_bound,
)
from niddl_xr.dynamics._kernels.components import principal_components

MOST_RANK = 10
_RANK_DRAWS = 59
_MOST_ROUNDS = 30
_SETTLED = 1e-3  # change of a round in standard deviations


def between_neighbours(values: np.ndarray, observed: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return values (t, neuron) with gaps bridged by straight lines over time; at the ends the last value stays."""
    filled = values.copy()
    for trace, known in zip(filled.T, observed.T, strict=True):
        if not known.all():
            trace[~known] = np.interp(t[~known], t[known], trace[known])
    return filled


def low_rank(values: np.ndarray, observed: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return values (t, neuron) with gaps filled by the modes that all neurons share, and the number of these modes.

    The modes are those above chance in traces whose gaps hold their mean, ten at most; none: gaps keep the mean. The
    filled values are fitted again until they settle. Rows without any value come out as the mean.
    """
    known = np.where(observed, values, np.nan)
    mean, sd = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    sd[sd == 0] = 1.0
    whole = np.where(observed, (values - mean) / sd, 0.0)
    rank = _rank(whole, rng)
    for _ in range(_MOST_ROUNDS if rank else 0):
        centre = whole.mean(axis=0)
        score, loading, _ = principal_components(whole - centre, rank)
        guess = (score @ loading.T + centre)[~observed]
        change = float(np.sqrt(np.mean((guess - whole[~observed]) ** 2)))
        whole[~observed] = guess
        if change < _SETTLED:
            break
    return np.where(observed, values, whole * sd + mean), rank


def _rank(whole: np.ndarray, rng: np.random.Generator) -> int:
    centred = whole - whole.mean(axis=0)
    if not centred.any():
        return 0
    modes = min(MOST_RANK, min(centred.shape) - 1)
    explained = principal_components(centred, modes)[2]
    draws = affordable_draws(centred.shape, _RANK_DRAWS)
    return int(leading_above(explained, upper_bound(chance_explained(centred, modes, draws, rng), STRICT_LEVEL)).sum())
